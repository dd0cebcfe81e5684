"""Prunes the student and fine-tunes it, then trains it with fake quantization; both follow the student's own output."""

from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.compress.prune import prune
from stages.networks import defects
from stages.networks.batchnorm import fold
from stages.networks.curves import curves
from stages.networks.patchcore import to_tensor
from stages.networks.quantize import QuantStudent
from stages.networks.student import Student
from stages.networks.torch_setup import prepare
from stages.networks.train import minimise

DATA, STUDENT = Path("data/train"), Path("artifacts/student")
PRUNED, QAT = Path("artifacts/pruned"), Path("artifacts/qat")


def outputs(model: Student, images) -> torch.Tensor:
    """What the unpruned student says about every picture: the target of everything that follows."""
    model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        parts = [model(to_tensor(images[i : i + 16])) for i in track(range(0, len(images), 16), "reference")]
    return torch.cat(parts).clone()


def compress(params) -> None:
    p = params.compress
    prepare(params.seed, params.threads)
    train = load_images(DATA, read_index(DATA, "train"), params.input.size)
    images, _ = defects.training_pool(train, params.distill.images, params.seed + 1)
    wanted = outputs(fold(Student.load(STUDENT)), images)

    def follow(model):
        return lambda pick: F.smooth_l1_loss(model(to_tensor(images[pick.numpy()])), wanted[pick])

    with curves("compress") as log:
        pruned = prune(Student.load(STUDENT), p.prune_ratio, p.prune_steps, to_tensor(images[:64]))
        pruned.to(memory_format=torch.channels_last)
        if p.prune_ratio:
            arguments = (len(images), p.finetune_epochs, params.distill.batch, p.lr, params.seed, "finetune")
            minimise(pruned, follow(pruned), *arguments, lambda step, **v: log(step, **v))
        quantized = QuantStudent(fold(pruned)).to(memory_format=torch.channels_last)
        quantized.train()
        with torch.no_grad():  # first ranges
            for part in to_tensor(images[:256]).split(16):
                quantized(part)
        arguments = (len(images), p.qat_epochs, params.distill.batch, p.lr / 4, params.seed, "qat")
        minimise(quantized, follow(quantized), *arguments, log, lambda epoch: quantized.freeze_ranges())
        quantized.freeze_ranges()
        quantized.eval()
    with atomic.directory(PRUNED) as folder:
        pruned.save(folder)
    with atomic.directory(QAT) as folder:
        quantized.save(folder)


if __name__ == "__main__":
    main("compress", compress)

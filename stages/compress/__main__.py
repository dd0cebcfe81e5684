"""Prunes the student and fine-tunes it, and trains both, pruned or not, with fake quantization.

All of them follow the output of the student as it was, on pictures with and without synthetic defects.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.compress.prune import prune
from stages.networks import checkpoint, defects
from stages.networks.batchnorm import fold
from stages.networks.curves import curves
from stages.networks.patchcore import to_tensor
from stages.networks.quantize import QuantStudent
from stages.networks.student import Student
from stages.networks.torch_setup import prepare
from stages.networks.train import minimise

DATA, STUDENT = Path("data/train"), Path("artifacts/student")
QAT, PRUNED, PRUNED_QAT = Path("artifacts/qat"), Path("artifacts/pruned"), Path("artifacts/pruned-qat")
CALIBRATION = 64  # pictures that batch norm and the sensitivities of the channels are measured on


def outputs(model: Student, images) -> torch.Tensor:
    """What the unpruned student says about every picture: the target of everything that follows."""
    model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        parts = [model(to_tensor(images[i : i + 16])) for i in track(range(0, len(images), 16), "reference")]
    return torch.cat(parts).clone()


def compress(params) -> None:
    p, batch = params.compress, params.distill.batch
    prepare(params.seed, params.threads)
    train = load_images(DATA, read_index(DATA, "train"), params.input.size)
    images, _ = defects.training_pool(train, params.distill.images, params.seed + 1)
    wanted = outputs(fold(Student.load(STUDENT)), images)

    def follow(model, epochs: int, lr: float, label: str, after_epoch=None) -> None:
        def loss(pick):
            return F.smooth_l1_loss(model(to_tensor(images[pick.numpy()])), wanted[pick])

        data = images, wanted
        minimise(model, loss, data, epochs, batch, lr, params.seed, "compress", label, log, after_epoch)

    def train_quantized(student: Student, label: str) -> QuantStudent:
        quantized = QuantStudent(fold(student)).to(memory_format=torch.channels_last)
        quantized.train()
        with torch.no_grad():  # first ranges
            for part in to_tensor(images[:256]).split(16):
                quantized(part)
        follow(quantized, p.qat_epochs, p.lr / 4, label, lambda epoch: quantized.freeze_ranges())
        quantized.freeze_ranges()
        return quantized.eval()

    with curves("compress") as log:
        pruned = prune(Student.load(STUDENT), p.prune_ratio, to_tensor(images[:CALIBRATION]), params.seed)
        qat = pruned_qat = train_quantized(Student.load(STUDENT), "qat")
        if p.prune_ratio:
            pruned.to(memory_format=torch.channels_last)
            follow(pruned, p.finetune_epochs, p.lr, "finetune")
            pruned_qat = train_quantized(pruned, "pruned_qat")
    for path, model in ((QAT, qat), (PRUNED, pruned), (PRUNED_QAT, pruned_qat)):
        with atomic.directory(path) as folder:
            model.save(folder)
    checkpoint.clear("compress")


if __name__ == "__main__":
    main("compress", compress)

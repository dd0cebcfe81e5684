"""Prunes the student and fine-tunes it, and trains both, pruned or not, with fake quantization.

All of them follow mask and patch features of the student as it was, on pictures with and without synthetic defects;
what comes out gets a memory bank of its own features.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.compress.prune import prune
from stages.networks import bank, checkpoint, defects, share
from stages.networks.batchnorm import fold
from stages.networks.curves import curves
from stages.networks.patchcore import to_tensor
from stages.networks.quantize import QuantStudent
from stages.networks.student import Student, nodes_channels
from stages.networks.torch_setup import accelerator, prepare
from stages.networks.train import minimise

DATA, STUDENT = Path("data/train"), Path("artifacts/student")
QAT, PRUNED, PRUNED_QAT = Path("artifacts/qat"), Path("artifacts/pruned"), Path("artifacts/pruned-qat")
CALIBRATION = 64  # pictures that batch norm and the sensitivities of the channels are measured on


def compress(params) -> None:
    p, batch = params.compress, params.distill.batch
    prepare(params.seed, params.threads)
    train = load_images(DATA, read_index(DATA, "train"), params.input.size)
    val = load_images(DATA, read_index(DATA, "val"), params.input.size)
    images, _ = defects.training_pool(train, params.distill.images, params.seed, 1)
    whole, mask_share = Student.load(STUDENT), share.load(STUDENT)
    entries = nodes_channels(whole.nodes, "bank")
    student = bank.body(whole).to(memory_format=torch.channels_last)
    wanted = bank.outputs(fold(student), images, lambda x: track(x, "reference"))
    spread = [float(part.std()) for part in wanted]
    device = accelerator()

    def follow(model, epochs: int, lr: float, label: str, after_epoch=None) -> None:
        def loss(pick):
            found = model(to_tensor(images[pick.numpy()]).to(device))
            pairs = zip(found, wanted, spread, strict=True)
            return sum(F.smooth_l1_loss(part / s, target[pick].to(device) / s) for part, target, s in pairs)

        data = images, *wanted
        model.to(device)
        minimise(model, loss, data, epochs, batch, lr, params.seed, "compress", label, log, after_epoch)
        model.cpu()

    def with_bank(trained: Student, model) -> Student:
        found = bank.choose(bank.outputs(model, train)[1], entries, params.seed)
        return bank.attach(trained, model, found, val, mask_share)

    def train_quantized(trained: Student, label: str) -> QuantStudent:
        quantized = QuantStudent(fold(trained)).to(memory_format=torch.channels_last)
        quantized.train()
        with torch.no_grad():  # first ranges
            for part in to_tensor(images[:256]).split(16):
                quantized(part)
        follow(quantized, p.qat_epochs, p.lr / 4, label, lambda epoch: quantized.freeze_ranges())
        quantized.freeze_ranges()
        quantized.eval()
        return QuantStudent.calibrated(with_bank(quantized.network, quantized), to_tensor(images[:256]), quantized)

    with curves("compress") as log:
        qat = train_quantized(student, "qat")
        pruned, pruned_qat = whole, qat
        if p.prune_ratio:
            smaller = prune(bank.body(whole), p.prune_ratio, to_tensor(images[:CALIBRATION]), params.seed)
            smaller.to(memory_format=torch.channels_last)
            follow(smaller, p.finetune_epochs, p.lr, "finetune")
            pruned, pruned_qat = with_bank(smaller, smaller), train_quantized(smaller, "pruned_qat")
    for path, model in ((QAT, qat), (PRUNED, pruned), (PRUNED_QAT, pruned_qat)):
        with atomic.directory(path) as folder:
            model.save(folder)
    checkpoint.clear("compress")


if __name__ == "__main__":
    main("compress", compress)

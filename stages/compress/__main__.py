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
from stages.detectors import memory_bank, score_fusion
from stages.graph.batchnorm import fold
from stages.graph.network import Network, nodes_channels
from stages.graph.prune import prune
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training import checkpoint, synthetic_defects
from stages.training.curves import curves
from stages.training.loop import minimise
from stages.training.torch_setup import accelerator, prepare

DATA, STUDENT = Path("data/train"), Path("artifacts/student")
QAT, PRUNED, PRUNED_QAT = Path("artifacts/qat"), Path("artifacts/pruned"), Path("artifacts/pruned-qat")
CALIBRATION = 64  # pictures that batch norm and the sensitivities of the channels are measured on


def compress(params) -> None:
    p, batch = params.compress, params.distill.batch
    prepare(params.seed, params.threads)
    train = load_images(DATA, read_index(DATA, "train"), params.input.size)
    val = load_images(DATA, read_index(DATA, "val"), params.input.size)
    images, _ = synthetic_defects.training_pool(train, params.distill.images, params.seed, 1)
    whole, mask_share = Network.load(STUDENT), score_fusion.load(STUDENT)
    entries = nodes_channels(whole.nodes, "bank")
    student = memory_bank.body(whole).to(memory_format=torch.channels_last)
    wanted = memory_bank.outputs(fold(student), images, lambda x: track(x, "reference"))
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

    def with_bank(trained: Network, model) -> Network:
        found = memory_bank.choose(memory_bank.outputs(model, train)[1], entries, params.seed)
        return memory_bank.attach(trained, model, found, val, mask_share)

    def train_quantized(trained: Network, label: str) -> QuantNetwork:
        quantized = QuantNetwork(fold(trained)).to(memory_format=torch.channels_last)
        quantized.train()
        with torch.no_grad():  # first ranges
            for part in to_tensor(images[:256]).split(16):
                quantized(part)
        follow(quantized, p.qat_epochs, p.lr / 4, label, lambda epoch: quantized.freeze_ranges())
        quantized.freeze_ranges()
        quantized.eval()
        return QuantNetwork.calibrated(with_bank(quantized.network, quantized), to_tensor(images[:256]), quantized)

    with curves("compress") as log:
        qat = train_quantized(student, "qat")
        pruned, pruned_qat = whole, qat
        if p.prune_ratio:
            smaller = prune(memory_bank.body(whole), p.prune_ratio, to_tensor(images[:CALIBRATION]), params.seed)
            smaller.to(memory_format=torch.channels_last)
            follow(smaller, p.finetune_epochs, p.lr, "finetune")
            pruned, pruned_qat = with_bank(smaller, smaller), train_quantized(smaller, "pruned_qat")
    for path, model in ((QAT, qat), (PRUNED, pruned), (PRUNED_QAT, pruned_qat)):
        with atomic.directory(path) as folder:
            model.save(folder)
    checkpoint.clear("compress")


if __name__ == "__main__":
    main("compress", compress)

"""A convolutional autoencoder (Bergmann et al., VISAPP 2019): what it can't reconstruct is no good picture's.

The layers are those of the paper's table 1 for a side of 128; a larger picture has a larger innermost window. Not as
there: relu6 and batch norm instead of leaky relu, and bilinear enlargement before a convolution instead of a transposed
one (Odena et al., Distill 2016), so that every layer has an int8 operator.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from stages.common.schema import Count, Epochs, Rate, Section
from stages.detectors.base import MAP, Detector, Export, Run, check_samples, check_square
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import how
from stages.graph.channels import make_divisible
from stages.graph.network import Network, Node
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training.fake_quantization import RATE, TRAINED, with_fake_quantization
from stages.training.loop import minimise
from stages.training.ssim import ssim
from stages.training.synthetic_defects import training_pool, vary
from stages.training.torch_setup import accelerator, mixed

STRIDE = 16  # of the innermost feature map
ENCODER = ((32, 4, 2), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2), (64, 3, 1), (32, 3, 1))
DECODER = ((64, False), (128, False), (64, True), (64, False), (32, True), (32, False), (32, True))  # enlarged before
ERROR = 4  # the map is the mean error of windows of twice as many pixels, so many apart: a choice
CALIBRATION = 64  # pictures, half with synthetic defects, that int8 ranges are calibrated on after fake quantization


class Settings(Section):
    loss: Literal["l2", "ssim"]
    width: Annotated[float, Field(ge=0.1, le=4)]  # scales the channels
    code: Annotated[int, Field(ge=1, le=4096)]  # numbers that a picture is squeezed into
    images: Count  # training pictures, slightly shifted and brightened
    epochs: Epochs
    qat_epochs: Epochs = 0  # more of them with fake quantization
    batch: Annotated[int, Field(ge=2, le=65536)]
    lr: Rate


def reconstruction(size: int, channels: int, width: float, code: int) -> list[Node]:
    """The nodes whose output `picture` [N, channels, size, size] repeats the input of the same shape."""
    nodes, last, inner = [], "input", size // STRIDE
    for i, (count, kernel, stride) in enumerate(ENCODER):
        nodes.append(Node(f"encode_{i}", "conv", (last,), make_divisible(count * width), kernel, stride))
        last = nodes[-1].name
    around = (inner - 1,) * 4  # makes the convolution of a single position the transposed one
    nodes += [
        Node("code", "conv", (last,), code, inner, padding="valid", norm=False, act=False),
        Node("decode", "conv", ("code",), make_divisible(32 * width), inner, padding=around),
    ]
    last = "decode"
    for i, (count, larger) in enumerate(DECODER):
        if larger:
            nodes.append(Node(f"up_{i}", "up", (last,)))
            last = f"up_{i}"
        nodes.append(Node(f"decode_{i}", "conv", (last,), make_divisible(count * width), 3))
        last = nodes[-1].name
    nodes += [Node("up", "up", (last,)), Node("picture", "conv", ("up",), channels, 3, norm=False, act=False)]
    return nodes


def with_error(network: Network) -> Network:
    """The deployable network: the anomaly map `error` [N, 1, S / 4, S / 4], the mean squared error of reconstruction in
    windows of 8 x 8 pixels."""
    nodes = [
        Node("difference", "sub", ("input", "picture")),
        Node("square", "square", ("difference",)),
        Node("error", "conv", ("square",), 1, 2 * ERROR, ERROR, norm=False, act=False),
    ]
    whole = Network([*network.nodes, *nodes], network.channels)
    whole.load_state_dict(network.state_dict(), strict=False)
    mean = whole.layers["error"]
    torch.nn.init.constant_(mean.weight, 1 / mean.weight[0].numel())
    torch.nn.init.zeros_(mean.bias)
    return whole.eval()


class Autoencoder(Detector):
    """The reconstruction with its error; `quantized` after training with fake quantization."""

    kind = "autoencoder"
    Settings = Settings

    def __init__(self, network: Network, quantized: QuantNetwork | None = None):
        self.network, self.quantized = network.eval(), quantized

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Trains the reconstruction of `train`; nothing is chosen on `val`."""
        check_samples(train, "train")
        check_samples(val, "val")
        check_square(train, cls.kind)
        rng, device = np.random.default_rng(run.seed), accelerator()
        samples = np.stack([vary(rng, train[i % len(train)]) for i in range(settings.images)])
        torch.manual_seed(run.seed)
        nodes = reconstruction(train.shape[1], train.shape[3], settings.width, settings.code)
        network = Network(nodes, train.shape[3]).to(device, memory_format=torch.channels_last)

        def loss(model, pick: torch.Tensor) -> torch.Tensor:
            images = to_tensor(samples[pick.numpy()]).to(device)
            with mixed(device):
                found = model(images).float()
            return 1 - ssim(images, found).mean() if settings.loss == "ssim" else F.mse_loss(found, images)

        def train_on(model, epochs: int, lr: float, label: str, after_epoch=None) -> None:
            given = epochs, settings.batch, lr, run.seed, run.stage, label, run.log, after_epoch
            minimise(model, lambda pick: loss(model, pick), (samples,), *given, settings=settings.loss)

        train_on(network, settings.epochs, settings.lr, "autoencoder")
        network.cpu()
        if not settings.qat_epochs:
            return cls(with_error(network))
        calibration = to_tensor(training_pool(train, CALIBRATION, run.seed, 1)[0])
        further = settings.qat_epochs, settings.lr * RATE, "qat"
        learned = with_fake_quantization(network, calibration, lambda model, after: train_on(model, *further, after))
        whole = with_error(learned.network)
        return cls(whole, QuantNetwork.calibrated(whole, calibration, learned))

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        settings = {"loss": "ssim", "width": 0.25, "code": 8, "images": 16, "epochs": 2, "qat_epochs": 1}
        return SimpleNamespace(**settings, batch=4, lr=0.002), None

    def write(self, folder: Path) -> dict:
        (self.quantized or self.network).save(folder)
        return {"quantized": self.quantized is not None}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        if settings["quantized"]:
            quantized = QuantNetwork.load(folder)
            return cls(quantized.network, quantized)
        return cls(Network.load(folder))

    def export(self) -> Export:
        ranges = TRAINED if self.quantized else how(CALIBRATION)
        return Export(fold(self.network), {"error": MAP}, quantized=self.quantized, ranges=ranges)

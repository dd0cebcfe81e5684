"""The student: a small network that starts as a detector, is trained with a defect mask, and keeps what pays."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.dataset import evenly
from stages.common.progress import track
from stages.detectors import memory_bank, score_fusion
from stages.detectors.base import MAP, Detector, Export, Run, check_samples
from stages.detectors.student_init import new_student
from stages.detectors.student_network import EMBEDDING, PATCH_STRIDE, SOURCES, STRIDE, taps
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated
from stages.graph.network import Network, nodes_channels
from stages.graph.tensors import to_tensor
from stages.training.feature_noise import noisy
from stages.training.loop import minimise
from stages.training.synthetic_defects import training_pool
from stages.training.targets import PCA_PICTURES, EmbeddingTargets, principal_components
from stages.training.torch_setup import accelerator, mixed
from stages.training.validation_defects import validation_defects

CALIBRATION = 64  # pictures that batch norm is calibrated on: a choice


class Student(Detector):
    """A network of nodes with the one output `score` (anomaly map at stride 8).

    record: how its parts were brought to one scale (`fusion`) and what `validation` said. start: what it started from.
    """

    kind = "student"

    def __init__(self, network: Network, record: dict, start: "Student | None" = None):
        self.network, self.record, self.start = network, record, start

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Builds the student's start, trains it and keeps what finds more of the validation defects.

        settings: the sections student and distill as one. The start is the trunk with a PCA of its own features as
        patch embeddings and their memory banks. A pretrained trunk stays as it is unless `train_trunk`: only the mask
        head is trained, on features that are computed once. A trunk from scratch learns the teacher's patch embeddings
        (`run.source`, targets.py) as well.
        """
        check_samples(train, "train", 2)
        check_samples(val, "val", 2)
        images = to_tensor(train[evenly(range(len(train)), CALIBRATION)])
        body = new_student(settings.init, settings.width, images)
        project(body, train)
        start = cls.build(memory_bank.part(body, {f"embed_{source}" for source in SOURCES}), train, val, settings, run)
        validation = {"start": start.record["validation"]}
        print(f"{run.stage}: AUROC of the start on validation defects {validation['start']['mean']:.3f}")
        if not settings.epochs:
            return cls(start.network, start.record | {"validation": validation | {"kept": "start"}}, start)
        samples, masks = training_pool(train, settings.images, run.seed)
        areas = F.max_pool2d(torch.from_numpy(masks).float().unsqueeze(1), STRIDE)
        if settings.init == "scratch" or settings.train_trunk:
            train_all(body, samples, areas, train, settings, run)
        else:
            train_head(body, samples, areas, settings, run)
        trained = cls.build(body, train, val, settings, run)
        validation["trained"] = trained.record["validation"]
        better = validation["trained"]["mean"] > validation["start"]["mean"]
        kept = trained if better else start
        name = "trained" if better else "start"
        print(f"{run.stage}: of the trained one {validation['trained']['mean']:.3f}; the student is the {name} one")
        record = {"fusion": kept.record["fusion"], "validation": validation | {"kept": name}}
        return cls(kept.network, record, start)

    @classmethod
    def build(cls, body: Network, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """The student of a body: with memory banks of what it says of the samples `train`, and its score fusion.

        The weights of its parts are chosen on every second picture of `val`: compile judges the exported file on the
        others.
        """
        memory_bank.centre(body, train)
        found = memory_bank.outputs(body, train, lambda x: track(x, "patch embeddings"))
        banks = memory_bank.choose_banks(found, memory_bank.bank_size(settings), run.seed)
        good, defects = val[::2], validation_defects(val[::2], run.seed)
        weights, aurocs = score_fusion.choose_weights(
            memory_bank.parts(body, banks, good),
            {name: memory_bank.parts(body, banks, samples) for name, samples in defects.items()},
        )
        network, fusion = memory_bank.with_banks(body, body, banks, val, weights)
        return cls(network, {"fusion": fusion, "validation": aurocs})

    def with_own_banks(self, body: Network, computed_by, train: np.ndarray, val: np.ndarray, seed: int):
        """A network and its fusion as memory_bank.with_banks gives them: another form of the student, with memory banks
        of what `computed_by` says of the samples `train`, as large as this one's, and with its weights of the parts."""
        size = nodes_channels(self.network.nodes, "bank_deep", self.network.channels)
        banks = memory_bank.choose_banks(memory_bank.outputs(computed_by, train), size, seed)
        weights = {name: part["weight"] for name, part in self.record["fusion"].items()}
        return memory_bank.with_banks(body, computed_by, banks, val, weights)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str]:
        settings = {"init": "scratch", "width": 0.25, "bank": 64, "train_trunk": False}
        settings |= {"images": 64, "epochs": 8, "batch": 8, "lr": 0.002, "feature_weight": 1.0, "mask_weight": 0.3}
        return SimpleNamespace(**settings), "patchcore"

    def write(self, folder: Path) -> dict:
        self.network.save(folder)
        return self.record

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        return cls(Network.load(folder), settings)

    def export(self) -> Export:
        network = fold(self.network)
        return Export(network, {name: MAP for name in network.heads})

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        values = self.network.activations(images)
        return torch.cat([values[f"embed_{source}"] for source in SOURCES], 1)


@torch.inference_mode()
def pooled(body: Network, samples: np.ndarray, source: str):
    """The pooled features [n, C, h, w] of samples uint8 [N, S, S, C], batch by batch."""
    network = memory_bank.part(body, {f"pool_{source}"})
    for i in range(0, len(samples), 16):
        yield network(to_tensor(samples[i : i + 16]))


def project(body: Network, train: np.ndarray) -> None:
    """Makes the patch embeddings of a body the principal components of its own features on the samples `train`."""
    drawn = train[evenly(range(len(train)), PCA_PICTURES)]
    for source in SOURCES:
        mean, matrix = principal_components(pooled(body, drawn, source), EMBEDDING)
        conv = body.ops[f"embed_{source}"].conv
        weight = torch.zeros(conv.weight.shape[:2], dtype=torch.double)
        weight[: matrix.shape[1]] = matrix.t()
        conv.weight.data.copy_(weight[:, :, None, None])
        conv.bias.data.copy_(-weight @ mean)


def mask_loss(body: Network, names: list[str], features, areas: torch.Tensor, pick: torch.Tensor, spread):
    """Binary cross entropy of the mask against areas with a pasted defect or noise on the features.

    The head alone is computed: the trunk's batch norm between fine and deep features must not see the noise.
    """
    seed = int((pick * torch.arange(1, len(pick) + 1)).sum())  # of this batch, whose order follows the run's seed
    features, areas = noisy(features, spread, areas, seed)
    head = {node.name for node in memory_bank.needed(body, {"mask"})}
    head -= {node.name for node in memory_bank.needed(body, set(names))}
    found = body.continued(dict(zip(names, features, strict=True)), head)["mask"]
    return F.binary_cross_entropy_with_logits(found.float(), areas)


def train_head(body: Network, samples: np.ndarray, areas: torch.Tensor, settings: Any, run: Run) -> None:
    """Trains the mask head on features of the trunk, which stays as it is.

    Half of them are those of its int8 form: a head that has learned to find noise would find that of the rounding.
    """
    names = [taps(body)[source] for source in SOURCES]
    trunk = memory_bank.part(body, set(names))
    quantized = calibrated(fold(trunk), to_tensor(samples[:CALIBRATION]))
    found: list[list[torch.Tensor]] = [[], []]
    with torch.no_grad():
        for i in track(range(0, len(samples), 16), "features"):
            values = (quantized if i // 16 % 2 else trunk).activations(to_tensor(samples[i : i + 16]))
            for features, name in zip(found, names, strict=True):
                features.append(values[name].clone())
    features = [torch.cat(batches) for batches in found]
    spread = [feature.std((0, 2, 3), keepdim=True) for feature in features]
    for name, op in body.ops.items():
        op.requires_grad_(name not in trunk.ops and not name.startswith(("pool_", "embed_")))

    def loss(pick: torch.Tensor) -> torch.Tensor:
        return mask_loss(body, names, [feature[pick] for feature in features], areas[pick], pick, spread)

    data = (*features, areas)
    minimise(body, loss, data, settings.epochs, settings.batch, settings.lr, run.seed, run.stage, "distill", run.log)
    body.requires_grad_(True)


def train_all(body: Network, samples: np.ndarray, areas: torch.Tensor, train: np.ndarray, settings: Any, run: Run):
    """Trains trunk and heads: the patch embeddings against the teacher's, by mean squared error, and the mask."""
    size = train.shape[1] // PATCH_STRIDE, train.shape[2] // PATCH_STRIDE
    targets = EmbeddingTargets(run.source, train, size, EMBEDDING, lambda x: track(x, "principal components"))
    wanted = targets(samples, lambda x: track(x, "teacher embeddings"))
    names, device = [taps(body)[source] for source in SOURCES], accelerator()
    embedded = memory_bank.part(body, {f"embed_{source}" for source in SOURCES}).ops.keys()
    body.to(device, memory_format=torch.channels_last)

    def loss(pick: torch.Tensor) -> torch.Tensor:
        with mixed(device):
            values = body.continued({"input": to_tensor(samples[pick.numpy()]).to(device)}, embedded)
        features = [values[name] for name in names]
        spread = [feature.detach().std((0, 2, 3), keepdim=True) for feature in features]
        target = wanted[pick].to(device)
        found = sum(F.mse_loss(values[f"embed_{source}"].float(), target) for source in SOURCES) / len(SOURCES)
        mask = mask_loss(body, names, features, areas[pick].to(device), pick, spread)
        return settings.feature_weight * found + settings.mask_weight * mask

    weights, data = (settings.feature_weight, settings.mask_weight), (samples, wanted, areas)
    epochs, batch = settings.epochs, settings.batch
    minimise(body, loss, data, epochs, batch, settings.lr, run.seed, run.stage, "distill", run.log, settings=weights)
    body.cpu()

"""The student: a small network that starts as a detector, is trained with a defect mask, and keeps what pays."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F

from stages.common.dataset import evenly
from stages.common.progress import track
from stages.detectors import memory_bank, poses, score_fusion
from stages.detectors.base import MAP, Detector, Export, Run, check_samples
from stages.detectors.memory_bank import without_mask
from stages.detectors.student_init import new_student, project, widest_trunk
from stages.detectors.student_network import SOURCES, STRIDE
from stages.detectors.student_training import train_all, train_head, train_narrow
from stages.graph.batchnorm import fold
from stages.graph.network import Network, nodes_channels
from stages.graph.tensors import to_tensor
from stages.training.synthetic_defects import CLIP, training_pool
from stages.training.validation_defects import validation_defects

CALIBRATION = 64  # pictures that batch norm is calibrated on: a choice


class Student(Detector):
    """A network of nodes with one output, the anomaly map at stride 8: `score`, of a mask alone `mask`.

    record: how its parts were brought to one scale (`fusion`), what `validation` said, and which `poses` were asked
    for and found. start: what it started from.
    """

    kind = "student"

    def __init__(self, network: Network, record: dict, start: "Student | None" = None):
        self.network, self.record, self.start = network, record, start

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Builds the student's start and trains it; the start is kept where it finds clearly more of the validation
        defects.

        settings: the sections student and distill as one. The start is the trunk with a PCA of its own features as
        patch embeddings and their memory banks. A pretrained trunk stays as it is unless `train_trunk`: only the mask
        head is trained, on features that are computed once; a narrower one first learns the patch embeddings of the
        wide one. A trunk from scratch learns the teacher's (`run.source`, targets.py) together with the mask. Of clips
        the trained one's map is the mask alone. With `poses` shown, copies of the pictures in the poses that they
        show (poses.py) join them once the start's PCA is fitted: for the banks and all training.
        """
        check_samples(train, "train", 2)
        check_samples(val, "val", 2)
        images = to_tensor(train[evenly(range(len(train)), CALIBRATION)])
        widest = widest_trunk(settings.init, settings.train_trunk)
        body = new_student(settings.init, settings.width, images, widest)
        project(body, train)
        record = {"poses": poses.shown(body, train, run)} if settings.poses == "shown" else {}
        train = poses.joined(train, record, run.seed)
        start = cls.build(without_mask(body), train, val, settings, run)
        validation = {"start": start.record["validation"]}
        print(f"{run.stage}: AUROC of the start on validation defects {validation['start']['mean']:.3f}")
        if not settings.epochs:
            record |= start.record | {"validation": validation | {"kept": "start"}}
            return cls(start.network, record, start)
        samples, masks = training_pool(train, settings.images, run.seed)
        areas = F.max_pool2d(torch.from_numpy(masks).float().unsqueeze(1), STRIDE)
        if settings.init == "scratch" or settings.train_trunk:
            train_all(body, samples, areas, train, settings, run)
        else:
            if settings.width < 1:
                wide = new_student(settings.init, 1, images)
                project(wide, train)
                train_narrow(body, without_mask(wide), samples, train, settings, run)
            train_head(body, samples, areas, settings, run)
        trained = cls.build(body, train, val, settings, run)
        validation["trained"] = trained.record["validation"]
        least = validation["start"]["mean"] - score_fusion.TOLERANCE
        name, kept = ("trained", trained) if validation["trained"]["mean"] >= least else ("start", start)
        print(f"{run.stage}: of the trained one {validation['trained']['mean']:.3f}; the student is the {name} one")
        record |= {"fusion": kept.record["fusion"], "validation": validation | {"kept": name}}
        return cls(kept.network, record, start)

    @classmethod
    def build(cls, body: Network, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """The student of a body: with memory banks of what it says of the samples `train`, and its score fusion.

        Of clips a mask counts alone: distances say how rare a look is, and new clips show new people.

        The weights of its parts are chosen on every second picture of `val`: compile judges the exported file on the
        others.
        """
        banks: dict[str, memory_bank.Bank] = {}
        if "mask" not in body.ops or train.shape[3] < CLIP:
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
        weights = {name: part["weight"] for name, part in self.record["fusion"].items()}
        banks: dict[str, memory_bank.Bank] = {}
        if "deep" in weights:
            size = nodes_channels(self.network.nodes, "bank_deep", self.network.channels)
            banks = memory_bank.choose_banks(memory_bank.outputs(computed_by, train), size, seed)
        return memory_bank.with_banks(body, computed_by, banks, val, weights)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, str]:
        settings = {"init": "scratch", "width": 0.25, "bank": 64, "poses": "none", "train_trunk": False}
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

    def embed(self, images: torch.Tensor) -> torch.Tensor | None:
        if "embed_deep" not in self.network.ops:  # a mask alone
            return None
        values = self.network.activations(images)
        return torch.cat([values[f"embed_{source}"] for source in SOURCES], 1)

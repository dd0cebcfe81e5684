"""A supervised detector, for those who have labelled defects: a classifier whose class activation map is the map.

It learns from good pictures and labelled defects, where `data.split` is supervised: with the focal loss of pictures
and, where masks mark the defects, of places; with oversampled defects and augmentation. It finds the defects it was
shown; what is new to it is the business of the other kinds.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from safetensors.torch import load_file, save_file
from sklearn.metrics import precision_recall_curve

from edge.errors import UserError
from stages.common.dataset import evenly
from stages.common.schema import Count, Epochs, Location, Rate, Section
from stages.detectors import memory_bank
from stages.detectors.base import BATCH, MAP, Detector, Export, Run, check_samples
from stages.detectors.student_network import STRIDE
from stages.detectors.supervised_network import DENSE, LOGITS, frozen, new_network
from stages.graph.batchnorm import fold
from stages.graph.bias_correction import calibrated, how
from stages.graph.network import Network
from stages.graph.quantize import QuantNetwork
from stages.graph.tensors import to_tensor
from stages.training import classifier
from stages.training.augment import augmented, flipped, oversampled
from stages.training.focal import class_balance, focal_loss, marked_loss, smooth_maximum
from stages.training.platt import platt
from stages.training.torch_setup import accelerator, mixed

CALIBRATION = 128  # pictures, half with a labelled defect, that int8 ranges are calibrated on: a choice
INT8 = "int8.safetensors"


class Settings(Section):
    weights: Location  # of the trunk: a hub name(@revision) or a folder, or scratch
    trained: Literal["all", "deep", "head"]  # deep: what follows stride 8; the rest stays as it is
    epochs: Annotated[Epochs, Field(ge=1)]
    patience: Count  # epochs without a better one that end the training
    batch: Annotated[int, Field(ge=2, le=65536)]
    lr: Rate  # peak, after the warm-up
    warm_up: Annotated[float, Field(ge=0, le=1)]  # share of the steps
    gamma: Annotated[float, Field(ge=0, le=10)]  # of the focal loss
    mask_weight: Annotated[float, Field(ge=0, le=10)] = 0.0  # of the loss against masks of defects (0: labels alone)
    oversample: Annotated[float, Field(ge=0, le=10)]  # defects are repeated up to this share of the good pictures
    dense: Annotated[int, Field(ge=8, le=4096, multiple_of=8)]  # channels of the dense layer
    dropout: Annotated[float, Field(ge=0, lt=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees
    zoom: Annotated[float, Field(ge=0, le=0.9)]
    contrast: Annotated[float, Field(ge=0, le=0.9)]


class Supervised(Detector):
    """A network of nodes whose output `map` is the probability of a defect at each place, at stride 8; the image score
    is its maximum."""

    kind = "supervised"
    Settings = Settings
    supervised = True

    def __init__(self, network: Network, quantized: QuantNetwork, record: dict):
        self.network, self.quantized, self.record = network, quantized, record

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Learns from the good samples `train` and the labelled defects of `run`; those of val choose the epoch."""
        check_samples(train, "train", 2)
        check_samples(val, "val")
        if run.defects is None:
            raise UserError(f"{run.stage}: needs labelled defects to learn from; set data.split: supervised")
        train_defects, val_defects = run.defects
        check_samples(train_defects, "defects of train", 2)
        check_samples(val_defects, "defects of val")
        chosen = oversampled(len(train), len(train_defects), settings.oversample)
        shown = [flipped(train_defects[i], number) for i, number in chosen]
        samples = np.concatenate([train, np.stack(shown)])
        unmarked = np.zeros(train_defects.shape[:3], bool)
        marks = run.masks if run.masks is not None and settings.mask_weight else unmarked
        shown_marks = [flipped(marks[i], number) for i, number in chosen]
        masks = np.concatenate([np.zeros(train.shape[:3], bool), np.stack(shown_marks)])
        labels = np.repeat([0.0, 1.0], [len(train), len(shown)]).astype(np.float32)
        alpha = class_balance(len(train), len(train_defects))
        seen = _half_defects(train, train_defects)
        network = new_network(settings.weights, settings.dense, to_tensor(seen[: CALIBRATION // 2]))
        record = learn(network, samples, labels, masks, alpha, (val, val_defects), settings, run)
        record |= {"alpha": alpha, "good": len(train), "defects": len(train_defects), "shown": len(shown)}
        record["marked"] = int(marks.any((1, 2)).sum())
        print(f"{run.stage}: epoch {record['epoch']} of {record['epochs']} is kept, validation F1 {record['f1']:.3f}")
        folded = fold(network)
        return cls(folded, calibrated(fold(network), to_tensor(seen)), record | {"calibration": len(seen)})

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        settings = {"weights": "scratch", "trained": "deep", "epochs": 2, "patience": 2, "batch": 4, "lr": 0.001}
        settings |= {"warm_up": 0.1, "gamma": 2.0, "mask_weight": 1.0, "oversample": 0.5, "dense": 16, "dropout": 0.2}
        return SimpleNamespace(**settings, rotation=15.0, zoom=0.1, contrast=0.2), None

    def write(self, folder: Path) -> dict:
        """The float network, and its int8 form: ranges, and weights and biases, which calibration changes as well."""
        self.network.save(folder)
        own = {name: value.contiguous() for name, value in self.quantized.state_dict().items()}
        save_file(own, folder / INT8)
        return self.record

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        quantized = QuantNetwork(Network.load(folder))
        quantized.load_state_dict(load_file(folder / INT8))
        quantized.freeze_ranges()
        return cls(Network.load(folder), quantized.eval(), settings)

    def saliency(self, sample: np.ndarray) -> np.ndarray:
        """How much the image's logit changes with each pixel, float32 [S, S], of one sample uint8 [S, S, C]."""
        image = to_tensor(sample[None]).requires_grad_()
        logit = self.network.continued({"input": image})[LOGITS].amax()
        (gradient,) = torch.autograd.grad(logit, image)
        return gradient.abs().amax(1)[0].numpy()

    def export(self) -> Export:
        count = self.record["calibration"]
        ranges = how(count, f"{count // 2} with labelled defects")
        return Export(fold(self.network), {"map": MAP}, quantized=self.quantized, ranges=ranges, smooth=1)


def _half_defects(good: np.ndarray, defects: np.ndarray) -> np.ndarray:
    """At most CALIBRATION samples, good ones and defects in turn, evenly drawn."""
    count = min(CALIBRATION // 2, len(good), len(defects))
    pairs = zip(evenly(range(len(good)), count), evenly(range(len(defects)), count), strict=True)
    return np.stack([sample for i, k in pairs for sample in (good[i], defects[k])])


def learn(network: Network, samples, labels, masks, alpha: float, val, settings, run: Run) -> dict:
    """Trains the network in place on samples uint8 [N, H, W, C] with labels [N] (1 defect) and masks bool [N, H, W],
    empty where a defect is not marked; returns which epoch was kept. val: good and defective samples."""
    device, start = accelerator(), frozen(network, settings.trained)
    fixed = {node.name for node in memory_bank.needed(network, set(start))}
    lower = fold(memory_bank.part(network, set(start))) if fixed else None
    for name, op in network.ops.items():
        op.requires_grad_(name not in fixed)
    after = {node.name for node in network.nodes} - fixed - {LOGITS, "map"}
    for model in filter(None, (network, lower)):
        model.to(device, memory_format=torch.channels_last)
    judged, any_marked = np.concatenate(val), bool(masks.any())
    truth = np.repeat([0, 1], [len(part) for part in val])

    def batches(epoch: int):
        order = np.random.default_rng([run.seed, epoch]).permutation(len(samples))
        for start in range(0, len(order) - len(order) % settings.batch or len(order), settings.batch):
            pick = order[start : start + settings.batch]
            ready = []
            for i in pick:
                rng = np.random.default_rng([run.seed, epoch, int(i)])
                how = settings.rotation, settings.zoom, settings.contrast
                ready.append(augmented(rng, samples[i], masks[i], *how))
            images, marked = map(np.stack, zip(*ready, strict=True))
            areas = F.max_pool2d(torch.from_numpy(marked).float().unsqueeze(1), STRIDE)
            yield images, torch.from_numpy(labels[pick]), areas

    def features(images: np.ndarray) -> dict[str, torch.Tensor]:
        values = {"input": to_tensor(images).to(device)}
        if lower is None:
            return values
        with torch.no_grad():
            found = lower.activations(values["input"])
        return {name: found[name] for name in start}

    def loss(batch) -> torch.Tensor:
        images, wanted, areas = batch
        with mixed(device):
            dense = network.continued(features(images), after)[DENSE]
            logits = network.continued({DENSE: F.dropout(dense, settings.dropout)}, {LOGITS})[LOGITS]
        logits = logits.float()
        found = focal_loss(smooth_maximum(logits), wanted.to(device), alpha, settings.gamma)
        if not any_marked:
            return found
        known = (wanted == 0) | areas.flatten(1).any(1)
        return found + settings.mask_weight * marked_loss(logits, areas.to(device), known.to(device), settings.gamma)

    @torch.inference_mode()
    def judged_logits() -> torch.Tensor:
        parts = np.array_split(judged, -(-len(judged) // BATCH))
        return torch.cat([network.continued(features(part))[LOGITS].flatten(1).amax(1).cpu() for part in parts])

    def judge() -> tuple[float, float]:
        logits = judged_logits()
        precision, recall, _ = precision_recall_curve(truth, logits.numpy())
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return float(f1.max()), -float(focal_loss(logits, torch.from_numpy(truth), alpha, settings.gamma))

    each = max(1, len(samples) // settings.batch)
    data = (samples, labels, masks, judged, truth)
    record = classifier.train(network, batches, each, loss, judge, settings, data, run)
    slope, offset = platt(judged_logits(), torch.from_numpy(truth))
    network.cpu().requires_grad_(True)
    return record | calibrate(network, slope, offset)


def calibrate(network: Network, slope: float, offset: float) -> dict:
    """Folds Platt's slope and offset into the last layer; returns them. Of a detector that has learned nothing, whose
    defects score lower than its good pictures, the logits stay as they are."""
    if slope <= 0:
        slope, offset = 1.0, 0.0
    conv = network.ops[LOGITS].conv
    with torch.no_grad():
        conv.weight.mul_(slope)
        conv.bias.mul_(slope).add_(offset)
    return {"slope": slope, "offset": offset}

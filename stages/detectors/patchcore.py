"""PatchCore (Roth et al., CVPR 2022): locally aware patch embeddings and their distance to a memory bank, a coreset."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from edge.errors import UserError
from stages.common import schema
from stages.common.progress import track
from stages.detectors import motion
from stages.detectors.backbone import FeatureExtractor, build, small_resnet_config
from stages.detectors.base import MAP, SCORE, Detector, Export, Run, check_samples
from stages.detectors.coreset import StreamedCoreset, greedy_coreset, projection, random_projection
from stages.detectors.joined import Balanced, JoinedExtractor
from stages.graph.tensors import to_tensor
from stages.training import simclr

REWEIGHT_NEIGHBOURS = 9  # b of the paper's eq. 7, which it gives no value for; that of anomalib (num_neighbors)

# of a backbone from nothing, for the examples of the kinds that have one
SIMCLR = {"backbone": "simclr", "layers": [0, 1], "scales": [1.0], "simclr_steps": 2, "simclr_batch": 4}
SIMCLR |= {"simclr_temperature": simclr.TEMPERATURE, "simclr_views": simclr.VIEWS}


def patch_embeddings(maps: list[torch.Tensor], pool: int, stride: int = 1) -> torch.Tensor:
    """Locally aware patch embeddings [N, D, h, w] of feature maps [N, D', h', w'].

    Each map is averaged over pool x pool neighbourhoods, resized to the first one and joined to it channel by channel;
    with `stride`, stride x stride positions become their mean, which leaves fewer patches.
    """
    pooled = [F.avg_pool2d(m, pool, stride=1, padding=pool // 2) for m in maps]
    size = pooled[0].shape[-2:]
    joined = torch.cat(
        [pooled[0]] + [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in pooled[1:]], dim=1
    )
    return F.avg_pool2d(joined, stride, ceil_mode=any(side % stride for side in size)) if stride > 1 else joined


class PatchCore(Detector, nn.Module):
    """Samples [N, C, H, W] in 0..1 to anomaly maps [N, 1, h, w] (distance to the nearest patch embedding of the bank)
    and image scores [N].

    The score is the maximum of the map; with `reweighted` (eq. 7 of the paper) it is higher where the nearest embedding
    lies far from its own neighbours in the bank, being a rare kind of good patch.
    """

    kind = "patchcore"
    Settings = schema.Teacher

    def __init__(
        self,
        extractor: FeatureExtractor | Balanced,
        bank: torch.Tensor,
        pool: int,
        score: str,
        stride: int = 1,
    ):
        nn.Module.__init__(self)
        self.extractor, self.pool, self.score, self.stride = extractor, pool, score, stride
        self.register_buffer("bank", bank)  # [K, D]
        self.register_buffer("bank_norm", bank.square().sum(1))
        neighbours = torch.zeros(0, dtype=torch.long)
        if score == "reweighted":
            count = min(REWEIGHT_NEIGHBOURS, len(bank))
            neighbours = torch.cat(
                [_distance(chunk, bank).topk(count, largest=False).indices for chunk in bank.split(512)]
            )
        self.register_buffer("neighbours", neighbours)  # [K, b], indices into the bank, itself included

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return patch_embeddings(self.extractor(images), self.pool, self.stride)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        stages = self.extractor(images)
        features = patch_embeddings(stages, self.pool, self.stride)
        n, d, h, w = features.shape
        patches = features.permute(0, 2, 3, 1).reshape(n * h * w, d)
        squared = patches.square().sum(1, keepdim=True) - 2 * patches @ self.bank.t() + self.bank_norm
        nearest, index = squared.min(dim=1)
        distances = nearest.clamp(min=0).sqrt().view(n, h * w)
        top, position = distances.max(dim=1)
        if self.score == "reweighted":
            flat = torch.arange(n, device=images.device) * (h * w) + position
            patch, closest = patches[flat], index[flat]
            around = (self.bank[self.neighbours[closest]] - patch.unsqueeze(1)).square().sum(2).clamp(min=0).sqrt()
            scale = top.unsqueeze(1)  # keeps the exponentials finite
            weight = 1 - torch.exp(top - scale.squeeze(1)) / torch.exp(around - scale).sum(1)
            top = weight * top
        maps = distances.view(n, 1, h, w)
        if self.stride > 1:
            maps = F.interpolate(maps, size=stages[0].shape[-2:], mode="bilinear", align_corners=False)
        return maps, top

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Builds the memory bank from the training samples. settings: the section teacher; `val` is not used."""
        check_samples(train, "train")
        generator = torch.Generator().manual_seed(run.seed)
        extractor = feature_extractor(settings, train, run).to(memory_format=torch.channels_last)
        patches, total = collect_patches(extractor, train, settings, generator)
        count = bank_size(total, settings)
        if (wanted := round(total * settings.coreset_ratio)) > count > 1:
            print(
                f"{run.stage}: warning: coreset_ratio asks for {wanted} of {total} patches; the memory bank holds "
                f"coreset_max_patches = {count}, a coreset of all",
                flush=True,
            )
        projected = random_projection(patches, settings.projection_dim, generator)
        chosen, radii = greedy_coreset(projected, count, progress=lambda x: track(x, "coreset"))
        for step in range(0, count, max(1, count // 50)):
            run.log(step, coreset_radius=radii[step])
        print(f"{run.stage}: {total} patches, {count} in the memory bank, {patches.shape[1]} dimensions each")
        return cls(extractor, patches[chosen], settings.patch_pool, settings.score, settings.patch_stride)

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        settings = SIMCLR | {"patch_pool": 3, "patch_stride": 2, "score": "max"}
        settings |= {"coreset_ratio": 0.1, "coreset_max_patches": 1000, "projection_dim": 16}
        return SimpleNamespace(**settings), None

    def write(self, folder: Path) -> dict:
        self.extractor.save(folder)
        save_file({"bank": self.bank}, folder / "bank.safetensors")
        return {"pool": self.pool, "score": self.score, "stride": self.stride}

    @classmethod
    def read(cls, folder: Path, settings: dict) -> Self:
        bank = load_file(folder / "bank.safetensors")["bank"]
        return cls(motion.load(folder), bank, **settings).eval()

    def export(self) -> Export:
        """The map, and the score where it is reweighted; else the device takes the maximum of the map. UserError with
        motion, which no file computes."""
        if isinstance(self.extractor, motion.MotionExtractor):
            raise UserError(
                "teacher.motion: OpenCV's optical flow can't be exported; leave out the teacher's variants, as "
                "`python -m experiments tier video` does, or set motion: none"
            )
        if self.score == "reweighted":
            return Export(self.eval(), {"map": MAP, "score": SCORE}, "output")
        return Export(FirstOutput(self).eval(), {"map": MAP})


class FirstOutput(nn.Module):
    """A module with its first output alone, so that an exported file doesn't compute the others."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.module(images)[0]


def feature_extractor(settings, train: np.ndarray, run: Run) -> FeatureExtractor | Balanced:
    """What computes feature maps: the backbone that params name, on the last frame where motion is beside it."""
    method = getattr(settings, "motion", "none")
    if method == "none":
        return backbone(settings, train, run)
    motion.check(method, settings.motion_lag, train.shape[3])
    appearance = backbone(settings, np.ascontiguousarray(train[..., -1:]), run)
    extractor = motion.MotionExtractor(appearance, method, settings.motion_lag)
    extractor.fit_balance(train)
    return extractor


def backbone(settings, train: np.ndarray, run: Run) -> FeatureExtractor | JoinedExtractor:
    """The frozen backbone that params name: one pretrained network, several that are joined, or one trained here on
    crops of the good samples (SimCLR)."""
    if isinstance(settings.backbone, list):
        return JoinedExtractor.pretrained(settings.backbone, settings.layers, settings.scales, train)
    if settings.backbone != "simclr":
        return FeatureExtractor.pretrained(settings.backbone, settings.layers, settings.scales)
    network = build(small_resnet_config(train.shape[3]), settings.layers)
    extractor = FeatureExtractor(network, "local_contrast", settings.scales)
    simclr.train(
        extractor,
        to_tensor(train).contiguous(),
        settings.simclr_steps,
        settings.simclr_batch,
        run.seed,
        lambda step, loss: run.log(step, simclr_loss=loss),
        lambda x: track(x, "simclr"),
        settings.simclr_temperature,
        settings.simclr_views,
    )
    return extractor


def bank_size(total: int, settings) -> int:
    """How many of `total` patch embeddings the memory bank holds."""
    return max(1, min(settings.coreset_max_patches, round(total * settings.coreset_ratio)))


def collect_patches(extractor, train: np.ndarray, settings, generator) -> tuple[torch.Tensor, int]:
    """Patch embeddings [N, D] to choose the coreset from, and how many there were: all of them where they are no more
    than coreset_max_patches, else what a `StreamedCoreset` with room for so many leaves of them."""
    drawn: list[torch.Tensor] = []
    stream: StreamedCoreset | None = None
    total, most = 0, settings.coreset_max_patches
    with torch.inference_mode():
        for i in track(range(0, len(train), 8), "patch embeddings"):
            maps = extractor(to_tensor(train[i : i + 8]))
            embeddings = patch_embeddings(maps, settings.patch_pool, settings.patch_stride).permute(0, 2, 3, 1)
            n, h, w, d = embeddings.shape
            total = len(train) * h * w
            if total > most and stream is None:
                project = projection(d, settings.projection_dim, generator)
                stream = StreamedCoreset(bank_size(total, settings), most, project, lambda x: track(x, "coreset"))
            for patches in embeddings.reshape(n, h * w, d):
                if stream:
                    stream.add(patches.clone())
                else:
                    drawn.append(patches[torch.randperm(h * w, generator=generator)])
    return stream.points() if stream else torch.cat(drawn), total


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

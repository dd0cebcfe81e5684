"""Motion beside appearance in the patch embeddings of a clip: dense optical flow from a frame before to the last one.

The backbone sees the last frame alone. Flow (OpenCV's DIS, Kroeger et al., ECCV 2016, or Farneback, SCIA 2003) is
pooled to the cells of its finest feature map: mean of both directions, mean and largest magnitude. Appearance and
motion are then balanced: over the training samples each has the mean square deviation 1 in all, since without it the
many channels of a backbone would drown the four of the flow. OpenCV's flow is in no model file, so such a teacher can
be distilled but not exported.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edge.errors import UserError
from stages.common.dataset import evenly
from stages.detectors.backbone import FeatureExtractor
from stages.graph.tensors import flatten_patches, to_tensor

BALANCED = 64  # training samples that both parts are balanced on: a choice
FLAT = 1e-6  # of a mean square: of what never changes, as the flow where nothing moves


def dis(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, now, None)


def farneback(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # OpenCV's example's settings


METHODS: dict[str, Callable] = {"dis": dis, "farneback": farneback}  # uint8 [S, S] twice to pixels [S, S, 2]


def flow(samples: np.ndarray, method: str, lag: int) -> np.ndarray:
    """How far things moved until the last frame since the one `lag` before it, as a share of the side: float32
    [N, S, S, 2] (x, y) of samples uint8 [N, S, S, T]."""
    found = []
    for sample in samples:
        before, now = (np.ascontiguousarray(sample[:, :, -1 - back]) for back in (lag, 0))
        found.append(METHODS[method](before, now) / samples.shape[1])
    return np.stack(found).astype(np.float32)


def pooled(field: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Flow [N, 2, S, S] as a map [N, 4, height, width]: mean x and y, mean and largest magnitude."""
    speed = field.square().sum(1, keepdim=True).sqrt()
    means = F.adaptive_avg_pool2d(torch.cat([field, speed], 1), (height, width))
    return torch.cat([means, F.adaptive_max_pool2d(speed, (height, width))], 1)


class MotionExtractor(nn.Module):
    """Samples [N, T, S, S] in 0..1 to the feature maps of their last frame, and that of the flow behind them.

    balance: the factors of appearance and motion."""

    def __init__(self, appearance: FeatureExtractor, method: str, lag: int, balance: tuple[float, float] = (1.0, 1.0)):
        super().__init__()
        self.appearance, self.method, self.lag, self.balance = appearance, method, lag, balance

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = self.appearance(images[:, -1:])
        samples = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        field = torch.from_numpy(flow(samples, self.method, self.lag)).permute(0, 3, 1, 2)
        motion = pooled(field, *maps[0].shape[-2:])
        return [*(part * self.balance[0] for part in maps), motion * self.balance[1]]

    @torch.inference_mode()
    def fit_balance(self, train: np.ndarray) -> None:
        """Chooses the factors on samples uint8 [N, S, S, T]."""
        parts: list[list[torch.Tensor]] = [[], []]
        drawn = train[evenly(range(len(train)), BALANCED)]
        for i in range(0, len(drawn), 8):
            *maps, motion = self(to_tensor(drawn[i : i + 8]))
            size = maps[0].shape[-2:]
            joined = torch.cat(
                [F.interpolate(part, size=size, mode="bilinear", align_corners=False) for part in maps], 1
            )
            for found, part in zip(parts, (joined, motion), strict=True):
                found.append(flatten_patches(part))
        spread = [float(torch.cat(found).double().var(0, correction=0).sum()) for found in parts]
        self.balance = (max(spread[0], FLAT) ** -0.5, max(spread[1], FLAT) ** -0.5)

    def save(self, folder: Path) -> None:
        """Writes the appearance extractor, and beside it what the motion is made of."""
        self.appearance.save(folder)
        saved = {"method": self.method, "lag": self.lag, "balance": list(self.balance)}
        (folder / "motion.json").write_text(json.dumps(saved, indent=2, sort_keys=True) + "\n")


def check(method: str, lag: int, frames: int) -> None:
    """UserError where a sample has no two frames that are `lag` apart."""
    if lag >= frames:
        raise UserError(
            f"teacher.motion = {method}: needs clips whose frames reach {lag} back (teacher.motion_lag), but a sample "
            f"has {frames}; set input.color: grey and input.frames, or motion: none"
        )


def load(folder: Path) -> FeatureExtractor | MotionExtractor:
    """The extractor in an artifact folder, with or without motion."""
    appearance = FeatureExtractor.load(folder)
    if not (folder / "motion.json").exists():
        return appearance
    saved = json.loads((folder / "motion.json").read_text())
    return MotionExtractor(appearance, saved["method"], saved["lag"], tuple(saved["balance"]))

"""Motion beside appearance in the patch embeddings of a clip: dense optical flow from a frame before to the last one.

The backbone sees the last frame alone. Flow (OpenCV's DIS, Kroeger et al., ECCV 2016, or Farneback, SCIA 2003) is
pooled to the cells of its finest feature map: mean of both directions, mean and largest magnitude. Appearance and
motion are then balanced, since the many channels of a backbone would drown the four of the flow. OpenCV's flow is in no
model file, so such a teacher can be distilled but not exported.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from edge.errors import UserError
from stages.detectors import joined
from stages.detectors.backbone import FeatureExtractor


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


class MotionExtractor(joined.Balanced):
    """Samples [N, T, S, S] in 0..1 to the feature maps of their last frame, and that of the flow behind them.

    balance: the factors of appearance and motion."""

    def __init__(
        self,
        appearance: FeatureExtractor | joined.JoinedExtractor,
        method: str,
        lag: int,
        balance: tuple[float, float] = (1.0, 1.0),
    ):
        super().__init__(balance)
        self.appearance, self.method, self.lag = appearance, method, lag

    def kinds(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        maps = self.appearance(images[:, -1:])
        samples = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        field = torch.from_numpy(flow(samples, self.method, self.lag)).permute(0, 3, 1, 2)
        return [maps, [pooled(field, *maps[0].shape[-2:])]]

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


def load(folder: Path) -> FeatureExtractor | joined.Balanced:
    """The extractor in an artifact folder, with or without motion."""
    appearance = joined.load(folder)
    if not (folder / "motion.json").exists():
        return appearance
    saved = json.loads((folder / "motion.json").read_text())
    return MotionExtractor(appearance, saved["method"], saved["lag"], tuple(saved["balance"]))

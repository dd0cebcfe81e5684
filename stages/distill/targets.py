"""What the student learns from the teacher: its patch features, in few dimensions and on the student's grid."""

import torch
import torch.nn.functional as F

from stages.common.dataset import evenly
from stages.detectors.patchcore import PatchCore
from stages.detectors.student_network import EMBEDDING
from stages.graph.tensors import to_tensor

PCA_PICTURES = 400


class Features:
    """The teacher's patch features on a grid of `side` x `side` positions, projected on their principal components.

    A small network can learn them. The components come from uint8 images [N, S, S, 3]; they are half whitened (the
    deviation of each becomes its square root), since light and position vary more than a defect does, and their mean
    square is 1.
    """

    def __init__(self, teacher: PatchCore, images, side: int, progress=lambda x: x):
        self.teacher, self.side = teacher.to(memory_format=torch.channels_last), side
        total, outer, count = 0, 0, 0
        for part in self._raw(images[evenly(range(len(images)), PCA_PICTURES)], progress):
            lines = part.permute(0, 2, 3, 1).reshape(-1, part.shape[1]).double()
            total, outer, count = total + lines.sum(0), outer + lines.t() @ lines, count + len(lines)
        self.mean = total / count
        values, vectors = torch.linalg.eigh(outer / count - self.mean.outer(self.mean))
        kept = min(EMBEDDING, len(values))
        values = values[-kept:].flip(0).clamp(min=max(1e-6 * float(values[-1]), 1e-12))
        self.matrix = vectors[:, -kept:].flip(1) * values**-0.25 / values.sqrt().mean().sqrt()

    def _raw(self, images, progress):
        for i in progress(range(0, len(images), 8)):
            with torch.inference_mode():
                yield self._gridded(self.teacher.features(to_tensor(images[i : i + 8])))

    def _gridded(self, features: torch.Tensor) -> torch.Tensor:
        if features.shape[-1] > self.side:
            return F.adaptive_avg_pool2d(features, self.side)
        return F.interpolate(features, size=(self.side, self.side), mode="bilinear", align_corners=False)

    def __call__(self, images, progress=lambda x: x) -> torch.Tensor:
        """[N, EMBEDDING, side, side] for uint8 images; channels that the teacher has no features for are 0."""
        out, start = torch.zeros(len(images), EMBEDDING, self.side, self.side), 0
        matrix, mean = self.matrix.float(), self.mean.float()
        for part in self._raw(images, progress):
            found = (part.permute(0, 2, 3, 1) - mean) @ matrix
            out[start : start + len(part), : found.shape[-1]] = found.permute(0, 3, 1, 2)
            start += len(part)
        return out

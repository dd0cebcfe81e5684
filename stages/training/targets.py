"""What a student learns from its teacher: patch embeddings, reduced by PCA and resized to the student's positions."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from edge.errors import UserError
from stages.common.dataset import evenly
from stages.graph.tensors import flatten_patches, to_tensor

PCA_PICTURES = 400  # that the PCA is fitted on, evenly drawn; a choice that bounds time: each has hundreds of patches


def principal_components(batches: Iterable[torch.Tensor], dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean [D] and projection [D, at most dim] of feature maps [n, D, h, w], in double precision.

    Half whitened: the standard deviation of each component becomes its square root, since light and position vary more
    than a defect does; then their mean square is scaled to 1.
    """
    total = outer = torch.zeros((), dtype=torch.float64)
    count = 0
    for batch in batches:
        patches = flatten_patches(batch).double()
        total, outer, count = total + patches.sum(0), outer + patches.t() @ patches, count + len(patches)
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - mean.outer(mean))
    kept = min(dim, len(values))
    values = values[-kept:].flip(0).clamp(min=max(1e-6 * float(values[-1]), 1e-12))
    return mean, vectors[:, -kept:].flip(1) * values**-0.25 / values.sqrt().mean().sqrt()


class EmbeddingTargets:
    """The teacher's patch embeddings, resized to `size` positions (height, width) and projected on `dim` principal
    components (PCA), which a small network can learn.

    The PCA is fitted on samples uint8 [N, H, W, C]. UserError for a teacher without patch embeddings.
    """

    def __init__(self, teacher, images, size: tuple[int, int], dim: int, progress=lambda x: x):
        if isinstance(teacher, nn.Module):
            teacher.to(memory_format=torch.channels_last)  # faster on a CPU
        self.teacher, self.size, self.dim = teacher, size, dim
        drawn = images[evenly(range(len(images)), PCA_PICTURES)]
        self.mean, self.matrix = principal_components(self._raw(drawn, progress), dim)

    def _raw(self, images, progress):
        """The teacher's embeddings [n, D, *size] before the PCA, batch by batch."""
        for i in progress(range(0, len(images), 8)):
            with torch.inference_mode():
                embeddings = self.teacher.embed(to_tensor(images[i : i + 8]))
            if embeddings is None:
                raise UserError(f"a {self.teacher.kind} has no patch embeddings to distil; choose another teacher")
            with torch.inference_mode():
                yield self._gridded(embeddings)

    def _gridded(self, features: torch.Tensor) -> torch.Tensor:
        if features.shape[-1] > self.size[1]:
            return F.adaptive_avg_pool2d(features, self.size)
        return F.interpolate(features, size=self.size, mode="bilinear", align_corners=False)

    def __call__(self, images, progress=lambda x: x) -> torch.Tensor:
        """[N, dim, *size] for images uint8 [N, H, W, C]; components beyond the teacher's dimensions are 0."""
        out, start = torch.zeros(len(images), self.dim, *self.size), 0
        matrix, mean = self.matrix.float(), self.mean.float()
        for batch in self._raw(images, progress):
            projected = (batch.permute(0, 2, 3, 1) - mean) @ matrix
            out[start : start + len(batch), : projected.shape[-1]] = projected.permute(0, 3, 1, 2)
            start += len(batch)
        return out

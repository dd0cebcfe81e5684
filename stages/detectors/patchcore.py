"""PatchCore (Roth et al., CVPR 2022): locally aware patch features and their distance to a memory bank."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from stages.common import manifest
from stages.detectors.backbone import FeatureExtractor

REWEIGHT_NEIGHBOURS = 9


def patch_features(maps: list[torch.Tensor], pool: int, stride: int = 1) -> torch.Tensor:
    """Each position averaged over its pool x pool neighbourhood, the maps joined at the grid of the first, and there
    averaged over stride x stride positions: [N, D, h, w]."""
    pooled = [F.avg_pool2d(m, pool, stride=1, padding=pool // 2) for m in maps]
    size = pooled[0].shape[-2:]
    joined = torch.cat(
        [pooled[0]] + [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in pooled[1:]], dim=1
    )
    return F.avg_pool2d(joined, stride, ceil_mode=any(side % stride for side in size)) if stride > 1 else joined


class PatchCore(nn.Module):
    """Images [N, 3, S, S] in 0..1 to anomaly maps [N, 1, h, w] (distance to the nearest bank entry) and scores [N].

    The score is the maximum of the map, or with `reweighted` the maximum weighted by how usual its nearest entry is
    (eq. 7 of the paper, b = 9 neighbours).
    """

    def __init__(self, extractor: FeatureExtractor, bank: torch.Tensor, pool: int, score: str, stride: int = 1):
        super().__init__()
        self.extractor, self.pool, self.score, self.stride = extractor, pool, score, stride
        self.register_buffer("bank", bank)  # [K, D]
        self.register_buffer("bank_norm", bank.square().sum(1))
        neighbours = torch.zeros(0, dtype=torch.long)
        if score == "reweighted":
            near = min(REWEIGHT_NEIGHBOURS, len(bank))
            neighbours = torch.cat(
                [_distance(rows, bank).topk(near, largest=False).indices for rows in bank.split(512)]
            )
        self.register_buffer("neighbours", neighbours)  # [K, b], itself included

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return patch_features(self.extractor(images), self.pool, self.stride)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        stages = self.extractor(images)
        features = patch_features(stages, self.pool, self.stride)
        n, d, h, w = features.shape
        patches = features.permute(0, 2, 3, 1).reshape(n * h * w, d)
        squared = patches.square().sum(1, keepdim=True) - 2 * patches @ self.bank.t() + self.bank_norm
        nearest, index = squared.min(dim=1)
        distances = nearest.clamp(min=0).sqrt().view(n, h * w)
        top, position = distances.max(dim=1)
        if self.score == "reweighted":
            flat = torch.arange(n, device=images.device) * (h * w) + position
            patch, entry = patches[flat], index[flat]
            around = (self.bank[self.neighbours[entry]] - patch.unsqueeze(1)).square().sum(2).clamp(min=0).sqrt()
            scale = top.unsqueeze(1)  # keeps the exponentials finite
            weight = 1 - torch.exp(top - scale.squeeze(1)) / torch.exp(around - scale).sum(1)
            top = weight * top
        maps = distances.view(n, 1, h, w)
        if self.stride > 1:
            maps = F.interpolate(maps, size=stages[0].shape[-2:], mode="bilinear", align_corners=False)
        return maps, top

    def save(self, folder: Path) -> None:
        self.extractor.save(folder)
        save_file({"bank": self.bank}, folder / "bank.safetensors")
        settings = {"pool": self.pool, "score": self.score, "stride": self.stride}
        (folder / "patchcore.json").write_text(json.dumps(settings, sort_keys=True) + "\n")
        manifest.write(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "PatchCore":
        folder = manifest.verify(Path(folder))
        settings = json.loads((folder / "patchcore.json").read_text())
        bank = load_file(folder / "bank.safetensors")["bank"]
        return cls(FeatureExtractor.load(folder), bank, **settings).eval()


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

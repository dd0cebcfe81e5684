"""Fits PatchCore to the good training images."""

from pathlib import Path

import numpy as np
import torch

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.detectors import coreset, patchcore
from stages.detectors.backbone import FeatureExtractor, build, pretrained, small_resnet_config
from stages.graph.tensors import to_tensor
from stages.training import simclr
from stages.training.curves import curves
from stages.training.torch_setup import prepare

DATA, OUT = Path("data/train"), Path("artifacts/teacher")


def make_extractor(p, images: np.ndarray, seed: int, log) -> FeatureExtractor:
    """The frozen feature extractor that params name."""
    if p.backbone != "simclr":
        return FeatureExtractor(pretrained(p.backbone, p.layers), "imagenet", p.scales).eval()
    extractor = FeatureExtractor(build(small_resnet_config(), p.layers), "local_contrast", p.scales)
    simclr.train(
        extractor,
        to_tensor(images).contiguous(),
        p.simclr_steps,
        p.simclr_batch,
        seed,
        lambda step, loss: log(step, simclr_loss=loss),
        lambda x: track(x, "simclr"),
    )
    return extractor


def collect_patches(extractor, images: np.ndarray, p, generator) -> tuple[torch.Tensor, int]:
    """Patch features [N, D], at most coreset_max_patches drawn evenly over the images, and how many there are."""
    kept, total = [], 0
    with torch.inference_mode():
        for i in track(range(0, len(images), 8), "patch features"):
            maps = extractor(to_tensor(images[i : i + 8]))
            features = patchcore.patch_features(maps, p.patch_pool, p.patch_stride).permute(0, 2, 3, 1)
            n, h, w, d = features.shape
            total += n * h * w
            quota = max(1, p.coreset_max_patches // len(images))
            for patches in features.reshape(n, h * w, d):
                kept.append(patches[torch.randperm(h * w, generator=generator)[:quota]].clone())
    return torch.cat(kept), total


def fit(params) -> None:
    p = params.teacher
    prepare(params.seed, params.threads)
    generator = torch.Generator().manual_seed(params.seed)
    train = load_images(DATA, read_index(DATA, "train"), params.input.size)
    with curves("teacher") as log:
        extractor = make_extractor(p, train, params.seed, log).to(memory_format=torch.channels_last)
        patches, total = collect_patches(extractor, train, p, generator)
        count = max(1, min(len(patches), round(total * p.coreset_ratio)))
        projected = coreset.random_projection(patches, p.projection_dim, generator)
        chosen, radii = coreset.greedy_coreset(projected, count, progress=lambda x: track(x, "coreset"))
        for step in range(0, count, max(1, count // 50)):
            log(step, coreset_radius=radii[step])
    model = patchcore.PatchCore(extractor, patches[chosen], p.patch_pool, p.score, p.patch_stride)
    with atomic.directory(OUT) as folder:
        atomic.write_json(folder / "teacher.json", {"patches": total, "bank": len(chosen)})
        model.save(folder)
    print(f"teacher: {total} patches, {len(chosen)} in the memory bank, {patches.shape[1]} features each")


if __name__ == "__main__":
    main("teacher", fit)

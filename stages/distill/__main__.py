"""Trains the student on the teacher's anomaly maps and on synthetic defect masks."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.distill.init import new_student
from stages.networks import defects, patchcore
from stages.networks.curves import curves
from stages.networks.patchcore import PatchCore, to_tensor
from stages.networks.student import Student, fuse_heads
from stages.networks.torch_setup import prepare
from stages.networks.train import minimise

DATA, TEACHER, OUT = Path("data/train"), Path("artifacts/teacher"), Path("artifacts/student")
STRIDE = 8


def targets(images, masks, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the student learns, both [N, 1, size/8, size/8]: the teacher's standardised map, and the masks."""
    stats = json.loads((TEACHER / "teacher.json").read_text())
    teacher = PatchCore.load(TEACHER).to(memory_format=torch.channels_last)
    maps, _ = patchcore.predict(teacher, images, progress=lambda x: track(x, "teacher maps"))
    maps = (maps - stats["map_mean"]) / stats["map_std"]
    grid = (size // STRIDE, size // STRIDE)
    if maps.shape[-1] > grid[-1]:
        maps = F.adaptive_max_pool2d(maps, grid)  # the worst of each cell
    elif maps.shape[-1] < grid[-1]:
        maps = F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
    return maps, F.max_pool2d(torch.from_numpy(masks).float().unsqueeze(1), STRIDE)


def fuse(student: Student, val: torch.Tensor, weights: dict[str, float]) -> Student:
    """The student with joined heads: on good validation pictures each weighs the same and their sum averages 0.

    A head that was not trained (weight 0) is left out.
    """
    with torch.inference_mode():
        outputs = [student(part) for part in val.split(16)]
    heads = {name: torch.cat([o[i] for o in outputs]) for i, name in enumerate(student.heads)}
    scales = {name: 1 / float(values.std()) if weights[name] else 0.0 for name, values in heads.items()}
    return fuse_heads(student, scales, sum(scales[name] * float(values.mean()) for name, values in heads.items()))


def distill(params) -> None:
    p = params.distill
    prepare(params.seed, params.threads)
    size = params.input.size
    train = load_images(DATA, read_index(DATA, "train"), size)
    val = to_tensor(load_images(DATA, read_index(DATA, "val"), size))
    images, masks = defects.training_pool(train, p.images, params.seed)
    maps, areas = targets(images, masks, size)
    student = new_student(params.student.init, params.student.width, to_tensor(images[:64]))
    student.to(memory_format=torch.channels_last)

    def loss(pick: torch.Tensor) -> torch.Tensor:
        predicted_map, predicted_mask = student(to_tensor(images[pick.numpy()]))
        map_loss = F.mse_loss(predicted_map, maps[pick])
        mask_loss = F.binary_cross_entropy_with_logits(predicted_mask, areas[pick])
        return p.map_weight * map_loss + p.mask_weight * mask_loss

    with curves("distill") as log:
        minimise(student, loss, len(images), p.epochs, p.batch, p.lr, params.seed, "distill", log)
    fused = fuse(student, val, {"map": p.map_weight, "mask": p.mask_weight})
    with atomic.directory(OUT) as folder:
        fused.save(folder)


if __name__ == "__main__":
    main("distill", distill)

"""Trains the student on the teacher's anomaly maps and on synthetic defect masks."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.distill import sheet
from stages.distill.heads import fuse
from stages.distill.init import new_student
from stages.networks import checkpoint, defects, patchcore
from stages.networks.curves import curves
from stages.networks.cutpaste import validation_defects
from stages.networks.patchcore import PatchCore, to_tensor
from stages.networks.torch_setup import prepare
from stages.networks.train import minimise

DATA, TEACHER, OUT = Path("data/train"), Path("artifacts/teacher"), Path("artifacts/student")
SHEET = Path("reports/curves/distill/defects.png")
STRIDE = 8
VAL_DEFECTS = 100  # at least so many synthetic defects for the choices made on validation pictures


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


def distill(params) -> None:
    p = params.distill
    prepare(params.seed, params.threads)
    size = params.input.size
    train = load_images(DATA, read_index(DATA, "train"), size)
    val = load_images(DATA, read_index(DATA, "val"), size)
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
        data = images, maps, areas
        weights = p.map_weight, p.mask_weight
        minimise(student, loss, data, p.epochs, p.batch, p.lr, params.seed, "distill", "distill", log, settings=weights)
    sheet.write(images, masks, SHEET)
    unseen = validation_defects(val, max(len(val), VAL_DEFECTS), params.seed)
    fused, choice = fuse(student, val, unseen, {"map": p.map_weight, "mask": p.mask_weight})
    print(
        f"distill: map and mask joined {choice['chosen'][0]} to {choice['chosen'][1]} (chosen on validation pictures)"
    )
    with atomic.directory(OUT) as folder:
        atomic.write_json(folder / "heads.json", choice)
        fused.save(folder)
    checkpoint.clear("distill")


if __name__ == "__main__":
    main("distill", distill)

"""Trains the student on the teacher's patch features and on synthetic defect masks, and gives it its memory bank."""

from pathlib import Path

import torch
import torch.nn.functional as F

from stages.common import atomic
from stages.common.dataset import load_images, read_index
from stages.common.progress import track
from stages.common.stage import main
from stages.detectors import memory_bank, score_fusion
from stages.detectors.patchcore import PatchCore
from stages.detectors.student_network import PATCH_STRIDE, STRIDE
from stages.distill import sheet
from stages.distill.init import new_student
from stages.distill.targets import Features
from stages.graph.tensors import to_tensor
from stages.training import checkpoint, synthetic_defects
from stages.training.curves import curves
from stages.training.loop import minimise
from stages.training.torch_setup import accelerator, mixed, prepare

DATA, TEACHER, OUT = Path("data/train"), Path("artifacts/teacher"), Path("artifacts/student")
SHEET = Path("reports/curves/distill/defects.png")


def distill(params) -> None:
    p = params.distill
    prepare(params.seed, params.threads)
    size = params.input.size
    train = load_images(DATA, read_index(DATA, "train"), size)
    val = load_images(DATA, read_index(DATA, "val"), size)
    images, masks = synthetic_defects.training_pool(train, p.images, params.seed)
    teacher = Features(PatchCore.load(TEACHER), train, size // PATCH_STRIDE, lambda x: track(x, "principal components"))
    features = teacher(images, lambda x: track(x, "teacher features"))
    areas = F.max_pool2d(torch.from_numpy(masks).float().unsqueeze(1), STRIDE)
    student = new_student(params.student.init, params.student.width, to_tensor(images[:64]))
    device = accelerator()
    student.to(device, memory_format=torch.channels_last)

    def loss(pick: torch.Tensor) -> torch.Tensor:
        with mixed(device):
            mask, embedding = student(to_tensor(images[pick.numpy()]).to(device))
        feature_loss = F.mse_loss(embedding.float(), features[pick].to(device))
        mask_loss = F.binary_cross_entropy_with_logits(mask.float(), areas[pick].to(device))
        return p.feature_weight * feature_loss + p.mask_weight * mask_loss

    with curves("distill") as log:
        data = images, features, areas
        weights = p.feature_weight, p.mask_weight
        minimise(student, loss, data, p.epochs, p.batch, p.lr, params.seed, "distill", "distill", log, settings=weights)
    student.cpu()
    sheet.write(images, masks, SHEET)
    memory_bank.centre(student, train)
    entries = memory_bank.choose(
        memory_bank.outputs(student, train)[1], memory_bank.entries(params.student), params.seed
    )
    chosen = score_fusion.choose(student, entries, val, params.seed)
    print(f"distill: {len(entries)} entries in the memory bank; the mask is {chosen['share']} of the score")
    whole = memory_bank.attach(student, student, entries, val, chosen["share"])
    with atomic.directory(OUT) as folder:
        atomic.write_json(folder / score_fusion.FILE, chosen)
        whole.save(folder)
    checkpoint.clear("distill")


if __name__ == "__main__":
    main("distill", distill)

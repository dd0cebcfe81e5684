"""`python -m experiments banks`: how much memory bank PatchCore needs: bytes against image AUROC on the test pictures.

The teacher in artifacts/ gets banks of several coreset ratios, each in float32, int8 and product-quantized. Distances
are computed in float32 to what is left of the bank. Which patches a coreset holds depends on where it starts and on the
projection of its distances, so each is drawn several times. Nothing is chosen by the result, which is for the plot
beside it.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from edge.errors import UserError
from edge.inference.scoring import image_score
from experiments import bank_table, provenance
from experiments.quantized_banks import FORMS
from stages.common import atomic, dataset, params
from stages.common.metrics import image_auroc
from stages.common.progress import track
from stages.detectors.coreset import greedy_coreset, nearest, random_projection
from stages.detectors.patchcore import PatchCore
from stages.detectors.registry import load
from stages.graph.tensors import flatten_patches, to_tensor
from stages.report.formatting import base_names, size
from stages.training.torch_setup import prepare

DATA, TEACHER, OUT = Path("data"), Path("artifacts/teacher"), Path("reports/banks.json")
RATIOS = (0.001, 0.003, 0.01, 0.03, 0.1)
DRAWS, MOST_DRAWS = 3, 100


@torch.inference_mode()
def embeddings(teacher: PatchCore, samples: np.ndarray, label: str) -> torch.Tensor:
    """Patch embeddings [N, D, h, w] of samples uint8 [N, H, W, C]."""
    return torch.cat([teacher.embed(to_tensor(samples[i : i + 8])) for i in track(range(0, len(samples), 8), label)])


def scores(patches: torch.Tensor, bank: torch.Tensor, size: tuple[int, int], smooth: int) -> np.ndarray:
    """Image scores [N] of patch embeddings [N, D, h, w]: the largest distance to the bank [K, D] in a map of that
    height and width, smoothed as on a device."""
    n, _, h, w = patches.shape
    maps = nearest(flatten_patches(patches), bank)[0].sqrt().view(n, 1, h, w)
    if size != (h, w):
        maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return np.array([image_score(one.numpy(), smooth=smooth) for one in maps[:, 0]])


def measure(teacher: PatchCore, train: np.ndarray, test: np.ndarray, labels, ratios, settings) -> list[dict]:
    """A row for each ratio and form, with the image AUROC of each draw. settings: the seed, the draws of the coreset,
    the projection of its distances, the smoothing of scores."""
    patches = flatten_patches(embeddings(teacher, train, "train"))
    counts = [max(1, round(ratio * len(patches))) for ratio in ratios]
    found, shape = embeddings(teacher, test, "test"), tuple(teacher.maps(test[:1]).shape[-2:])
    rows: dict[tuple[float, str], dict] = {}
    for draw in range(settings.draws):
        generator = torch.Generator().manual_seed(settings.seed + draw)
        projected = random_projection(patches, settings.projection_dim, generator)
        start = int(torch.randint(len(patches), (), generator=generator)) if draw else 0
        # the greedy coreset of a smaller ratio is the beginning of that of a larger one
        chosen, _ = greedy_coreset(projected, max(counts), start, progress=lambda x: track(x, "coreset"))
        for ratio, count in zip(ratios, counts, strict=True):
            for form, quantize in FORMS.items():
                bank, bytes_ = quantize(patches[chosen[:count]])
                row = {"ratio": ratio, "patches": count, "form": form, "bytes": bytes_, "image_auroc": []}
                row = rows.setdefault((ratio, form), row)
                auroc = image_auroc(labels, scores(found, bank, shape, settings.smooth))
                row["bytes"] = max(row["bytes"], bytes_)  # equal patches share centroids
                row["image_auroc"].append(auroc)
                print(
                    f"draw {draw}, ratio {ratio}, {form}: {count} patches, {size(bytes_)}, AUROC {auroc:.4f}",
                    flush=True,
                )
    return list(rows.values())


def add_arguments(parser) -> None:
    parser.add_argument("--ratio", nargs="+", type=float, default=list(RATIOS), metavar="R", help="coreset ratios")
    parser.add_argument("--draws", type=int, default=DRAWS, metavar="N", help=f"coresets of each ratio ({DRAWS})")
    parser.add_argument("--output", type=Path, default=OUT, metavar="FILE", help=f"JSON; the plot lies beside ({OUT})")


def run(arguments) -> None:
    if not all(0 < ratio <= 1 for ratio in arguments.ratio):
        raise UserError(f"--ratio {' '.join(map(str, arguments.ratio))}: each must be above 0 and at most 1")
    if not 1 <= arguments.draws <= MOST_DRAWS:
        raise UserError(f"--draws {arguments.draws}: must be from 1 to {MOST_DRAWS}")
    chosen = params.validate(params.read_yaml("params.yaml"))
    geometry = chosen.input.geometry
    if geometry.fit != "stretch" or geometry.tiles.count > 1:
        raise UserError("input: tiles or letterboxed pictures; banks are compared without")
    prepare(chosen.seed, chosen.threads)
    teacher = load(TEACHER)
    if not isinstance(teacher, PatchCore):
        raise UserError(f"{TEACHER}: is a {teacher.kind}, which has no memory bank; run dvc repro with a patchcore")
    train = dataset.load_samples(DATA / "train", dataset.read_index(DATA / "train", "train"), chosen.input)
    items = dataset.read_index(DATA / "test")
    if any(item.clip for item in items):
        raise UserError(f"{DATA / 'test'}: holds clips; banks are compared on pictures")
    test, labels = dataset.load_samples(DATA / "test", items, chosen.input), [bool(item.label) for item in items]
    if len(set(labels)) < 2:
        raise UserError(f"{DATA / 'test'}: an AUROC needs good and defect pictures")
    settings = SimpleNamespace(
        seed=chosen.seed,
        draws=arguments.draws,
        projection_dim=chosen.teacher.projection_dim,
        smooth=chosen.compile.smooth,
    )
    rows = measure(teacher, train, test, labels, sorted(set(arguments.ratio)), settings)
    networks = " and ".join(base_names(chosen.teacher.backbone))
    found = {"images": len(test), "backbone": networks, "dimensions": teacher.bank.shape[1]}
    atomic.write_json(arguments.output, {**found, "seed": chosen.seed, "rows": rows, "code": provenance.current()})
    bank_table.draw(rows, arguments.output.with_suffix(".png"))
    print(f"wrote {arguments.output} and {arguments.output.with_suffix('.png')}")

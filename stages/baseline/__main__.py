"""`python -m stages.baseline <name>`: fits the detector kind that params name into artifacts/baseline/<name>."""

import sys
from pathlib import Path

from edge.errors import UserError
from stages.baseline import explanation
from stages.common import atomic
from stages.common.dataset import load_samples, read_index, thinned
from stages.common.masks import load_masks
from stages.common.params import check
from stages.common.stage import fail, item, main
from stages.detectors.base import Run
from stages.detectors.registry import find
from stages.training import checkpoint
from stages.training.curves import curves
from stages.training.torch_setup import prepare

DATA, OUT, CURVES = Path("data/train"), Path("artifacts/baseline"), Path("reports/curves")


def fit(params, name: str) -> None:
    chosen, where = getattr(params.baselines, name), f"baselines.{name}"
    kind = find(chosen.kind, f"params.yaml: {where}.kind")
    if kind.Settings is None:
        raise UserError(
            f"params.yaml: {where}.kind = {chosen.kind}: needs another detector to learn from; choose another"
        )
    if kind.supervised and params.input.geometry.tiles.count > 1:
        raise UserError(
            f"params.yaml: {where}: the kind {chosen.kind} learns from whole pictures, since a tile of a defective one "
            "may be good; leave out input.tiles, or this baseline and its variants"
        )
    settings = check(kind.Settings, chosen.settings, f"params.yaml: {where}.settings")
    if getattr(settings, "streaming", False) and params.input.step != 1:
        raise UserError(
            f"params.yaml: {where}.settings.streaming: a state sees every frame, but input.step = {params.input.step}; "
            "set 1, or streaming: false"
        )
    prepare(params.seed, params.threads)
    good, bad = ((0,), (1,)) if kind.supervised else (None, None)
    train, val = (load_samples(DATA, read_index(DATA, split, good), params.input) for split in ("train", "val"))
    defects, masks, items = None, None, []
    if bad:
        learned, items = (thinned(read_index(DATA, split, bad), params.input) for split in ("train", "val"))
        defects = load_samples(DATA, learned, params.input), load_samples(DATA, items, params.input)
        masks = load_masks(DATA, learned, params.input.geometry)
    stage = f"baseline-{name}"
    with curves(stage) as log:
        detector = kind.fit(train, val, settings, Run(params.seed, stage, log, defects=defects, masks=masks))
    if defects:
        explanation.write(detector, defects[1], items, DATA, params.input.geometry, CURVES / stage / "explanation.png")
    with atomic.directory(OUT / name) as folder:
        detector.save(folder)
    checkpoint.clear(stage)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("baseline", "give one of the baselines in params.yaml, e.g. python -m stages.baseline patchcore", 2)
    name = item("baseline", sys.argv[1])
    main(f"baseline@{name}", lambda params: fit(params, name))

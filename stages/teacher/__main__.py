"""Fits PatchCore to the good training samples."""

from pathlib import Path

from stages.common import atomic
from stages.common.dataset import load_samples, read_index
from stages.common.stage import main
from stages.detectors.base import Run
from stages.detectors.patchcore import PatchCore
from stages.training.curves import curves
from stages.training.torch_setup import prepare

DATA, OUT = Path("data/train"), Path("artifacts/teacher")


def fit(params) -> None:
    prepare(params.seed, params.threads)
    train, val = (load_samples(DATA, read_index(DATA, split), params.input) for split in ("train", "val"))
    with curves("teacher") as log:
        teacher = PatchCore.fit(train, val, params.teacher, Run(params.seed, "teacher", log))
    with atomic.directory(OUT) as folder:
        teacher.save(folder)


if __name__ == "__main__":
    main("teacher", fit)

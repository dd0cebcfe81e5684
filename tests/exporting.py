"""A detector exported as the stage does it and opened as a device does."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from edge.inference.detector import Detector, load
from stages.compile.__main__ import write
from stages.compile.build import Build


def export(detector, form: str, precision: str, root: Path, samples: np.ndarray) -> tuple[Build, Detector]:
    """Into `root`/<format>-<precision>; samples uint8 [N, S, S, C] are what calibration sees."""
    folder, work = root / f"{form}-{precision}", root / f"work-{form}-{precision}"
    folder.mkdir(parents=True)
    work.mkdir()
    build = Build(detector, "tiny", form, precision, samples, folder, work)
    channels = samples.shape[3]
    axes = {"color": "rgb", "frames": 1} if channels == 3 else {"color": "grey", "frames": channels}
    spec = SimpleNamespace(size=samples.shape[1], step=1, depth=None, **axes)
    write(build, SimpleNamespace(input=spec, compile=SimpleNamespace(smooth=1, map_sigma=0.0)))
    return build, load(folder)

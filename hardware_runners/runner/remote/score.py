"""Scores pictures with a model on this machine: `python -m hardware_runners.runner.remote.score MODEL FOLDER`."""

from __future__ import annotations

import base64
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edge.arrays import Floats
from edge.inference.detector import load
from edge.inference.kernels import KERNELS, use
from edge.preprocess import read_image, to_sample
from hardware_runners.runner.remote import job


def score(
    folder: str, pictures: str, delegate: str | None = None, kernels: str | None = None, maps: bool = False
) -> dict[str, Any]:
    """{relative path: score} of every file in the folder `pictures`, the threshold of the model, and with `maps` the
    packed maps as the model gives them."""
    detector = load(folder, 1, delegate)
    if kernels:
        use(detector, kernels)
    spec, scores, packed = detector.info.input, {}, {}
    for path in sorted(path for path in Path(pictures).rglob("*") if path.is_file()):
        job.end_with_parent()
        detector.reset()
        sample = to_sample([read_image(path, spec.depth)] * spec.frames, spec.color)
        name, found = path.relative_to(pictures).as_posix(), detector.predict(sample)
        scores[name] = found.score
        if maps:
            packed[name] = pack(found.raw_map)
    out = {"scores": scores, "threshold": detector.info.threshold, "runtime": detector.details}
    return {**out, "maps": packed} if maps else out


def pack(map: Floats) -> str:
    """A float32 map [h, w] as text; that of an int8 model has at most 256 values and becomes small."""
    return base64.b64encode(zlib.compress(map.astype("<f4").tobytes())).decode()


def unpack(text: str, height: int, width: int) -> Floats:
    """The map of `pack`; ValueError when it isn't one of that size."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<f4")
    return values.astype(np.float32).reshape(height, width)


def main(argv: list[str] | None = None) -> int:
    """Prints the scores as JSON; one line on stderr and 1 when the model or a picture can't be used."""
    parser = job.parser("score", __doc__)
    parser.add_argument("pictures", help="a folder of pictures")
    parser.add_argument("--kernels", choices=KERNELS, help="TFLite's own kernels instead of XNNPACK's")
    parser.add_argument("--maps", action="store_true", help="give the maps, too")
    given = parser.parse_args(argv)
    return job.answer(lambda: score(given.model, given.pictures, given.delegate, given.kernels, given.maps))


if __name__ == "__main__":
    sys.exit(main())

"""Scores pictures with a model on this machine: `python -m hardware_runners.runner.remote.score MODEL FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edge.inference.detector import load
from edge.preprocess import read_image, to_sample
from hardware_runners.runner.remote import job


def score(folder: str, pictures: str, delegate: str | None = None) -> dict[str, Any]:
    """{relative path: score} of every file in the folder `pictures`, and the threshold of the model."""
    detector = load(folder, 1, delegate)
    spec, scores = detector.info.input, {}
    for path in sorted(path for path in Path(pictures).rglob("*") if path.is_file()):
        detector.reset()
        sample = to_sample([read_image(path, spec.depth)] * spec.frames, spec.color)
        scores[path.relative_to(pictures).as_posix()] = detector.predict(sample).score
    return {"scores": scores, "threshold": detector.info.threshold, "runtime": detector.details}


def main(argv: list[str] | None = None) -> int:
    """Prints the scores as JSON; one line on stderr and 1 when the model or a picture can't be used."""
    parser = job.parser("score", __doc__)
    parser.add_argument("pictures", help="a folder of pictures")
    given = parser.parse_args(argv)
    return job.answer(lambda: score(given.model, given.pictures, given.delegate))


if __name__ == "__main__":
    sys.exit(main())

"""Scores pictures with a model on this machine: `python -m hardware_runners.runner.remote.score MODEL FOLDER`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge.inference import runtimes, scoring
from edge.inference.modelfile import ModelError, open_model
from edge.preprocess import ImageError, read_image, resize


def score(folder: str, pictures: str, delegate: str | None = None) -> dict:
    """{relative path: score} of every file in the folder `pictures`, and the threshold of the model."""
    info = open_model(folder)
    runtime = runtimes.open_runtime(info, 1, delegate)
    scores = {}
    for path in sorted(path for path in Path(pictures).rglob("*") if path.is_file()):
        map, output = runtime.run(resize(read_image(path), info.input.height, info.input.width))
        scores[path.relative_to(pictures).as_posix()] = scoring.image_score(
            map, info.score.rule, info.score.smooth, output
        )
    return {"scores": scores, "threshold": info.threshold, "runtime": runtime.details}


def main(argv: list[str] | None = None) -> int:
    """Prints the scores as JSON; one line on stderr and 1 when the model or a picture can't be used."""
    parser = argparse.ArgumentParser(prog="python -m hardware_runners.runner.remote.score", description=__doc__)
    parser.add_argument("model", help="the model folder")
    parser.add_argument("pictures", help="a folder of pictures")
    parser.add_argument("--delegate", choices=["edgetpu"], help="run a TFLite model on this accelerator")
    arguments = parser.parse_args(argv)
    try:
        print(json.dumps(score(arguments.model, arguments.pictures, arguments.delegate)))
    except (ModelError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m edge predict MODEL IMAGE|FOLDER` and `python -m edge info MODEL`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge.detector import load
from edge.modelfile import ModelError, open_model
from edge.preprocess import ImageError, read_image

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 whatever the verdicts are, 1 after one line on stderr for bad input."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ModelError, ImageError) as error:
        _complain(error)
        return 1


def _predict(arguments) -> int:
    detector = load(arguments.model, arguments.threads)
    paths = _images(Path(arguments.image))
    width = max(len(str(path)) for path in paths)
    rows, failed = [], False
    for path in paths:
        try:
            prediction = detector.predict(read_image(path))
        except ImageError as error:
            _complain(error)
            failed = True
            continue
        verdict = "defect" if prediction.is_defect else "good"
        rows.append({"path": str(path), "score": prediction.score, "verdict": verdict})
        if not arguments.json:
            print(f"{path!s:<{width}}  {prediction.score:10.5f}  {verdict}")
    if arguments.json:
        print(json.dumps(rows, indent=2))
    return 1 if failed else 0


def _info(arguments) -> int:
    info = open_model(arguments.model)
    spec, out = info.input, info.output
    print(f"{info.name}: {info.task}, {info.format}, {info.path.stat().st_size} bytes, sha256 {info.sha256[:12]}")
    print(f"input      {spec.height} x {spec.width} {spec.color} {spec.dtype} {spec.layout}, resize: {spec.resize}")
    print(f"output     {out.height} x {out.width} {out.dtype} {out.meaning}")
    print(f"score      {info.score.rule}, smooth {info.score.smooth}, threshold {info.threshold:.6g}")
    print(f"           ({info.threshold_method})")
    print(f"cost       {info.params} parameters, {info.macs} multiply-accumulates")
    for key, value in sorted(info.made_by.items()):
        print(f"made by    {key}: {value}")
    return 0


def _images(path: Path) -> list[Path]:
    """The picture itself, or every picture in the folder and below it, sorted."""
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise ImageError(f"{path}: holds no picture ({', '.join(sorted(SUFFIXES))})")
    return found


def _complain(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m edge", description="Run a deployed model on pictures.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="score pictures and judge them")
    predict.add_argument("model", help="the model folder")
    predict.add_argument("image", help="a picture, or a folder of them")
    predict.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    predict.add_argument("--json", action="store_true", help="print one JSON array instead of a table")
    predict.set_defaults(run=_predict)
    info = commands.add_parser("info", help="show what a model folder holds")
    info.add_argument("model", help="the model folder")
    info.set_defaults(run=_info)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`python -m edge predict MODEL IMAGE|FOLDER` and `python -m edge info MODEL`."""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2

from edge.app import console, options, outputs, overlay, privacy
from edge.arrays import Image
from edge.errors import UserError, shown
from edge.inference.detector import Prediction
from edge.inference.modelfile import open_model
from edge.inference.modelinfo import ModelInfo
from edge.preprocess import MAX_PIXELS, SUFFIXES, ImageError, find_pictures, read_image, to_sample


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("predict", help="score pictures and judge them")
    options.add_model(parser)
    options.add_rate(parser)
    options.add_types(parser)
    parser.add_argument("image", help="a picture, or a folder of them")
    parser.add_argument("--overlay", metavar="DIR", help="write each picture with heat map and regions into DIR")
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="leave out larger pictures (default: %(default)s)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON array instead of a table")
    form.add_argument("--csv", action="store_true", help="print comma-separated rows instead of a table")
    privacy.add_options(parser)
    parser.set_defaults(run=predict)
    parser = commands.add_parser("info", help="show what a model folder holds")
    parser.add_argument("model", help="the model folder")
    parser.add_argument("--json", action="store_true", help="print its model.json")
    parser.set_defaults(run=info)


def predict(arguments: argparse.Namespace) -> int:
    """Goes on after a broken picture; 1 when there was one."""
    detector = options.detector(arguments)
    spec = detector.info.input
    guard = privacy.from_options(arguments)
    root = Path(arguments.image)
    paths = _images(root)
    targets = _targets(arguments.overlay, root, paths) if arguments.overlay is not None else {}
    width = max(len(shown(path)) for path in paths)
    table = csv.writer(sys.stdout, lineterminator="\n")
    rows, failed = [], False
    typed = detector.types is not None
    if arguments.csv:
        table.writerow(["path", "score", "verdict", *["type"] * typed])
    for path in paths:
        try:
            image = _read(path, guard, spec.depth, arguments.max_pixels)
        except ImageError as error:
            console.complain(f"error: {error}")
            failed = True
            continue
        detector.reset()  # each picture stands for itself; as a clip it stands still
        prediction = detector.predict(to_sample([image] * spec.frames, spec.color))
        found = overlay.regions(prediction.map) if prediction.is_defect else []
        scale = image.shape[1] / prediction.map.shape[1], image.shape[0] / prediction.map.shape[0]
        row = {
            "path": str(path),
            "score": prediction.score,
            "verdict": "defect" if prediction.is_defect else "good",
            "boxes": [list(region.scaled(*scale)) for region in found],
        }
        kind = prediction.type
        if typed:
            row.update({"type": None} if kind is None else kind.to_json())
        if targets:
            _draw(targets[path], image, prediction, found, detector.info.threshold)
        if arguments.csv:
            table.writerow([row["path"], row["score"], row["verdict"], *[kind.type if kind else ""] * typed])
        elif not arguments.json:
            told = f"  {shown(kind.type)} ({kind.distance:.2f})" if kind else ""
            print(f"{shown(path):<{width}}  {prediction.score:10.5f}  {row['verdict']}{told}")
        rows.append(row)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    return 1 if failed else 0


def info(arguments: argparse.Namespace) -> int:
    info = open_model(arguments.model)
    if arguments.json:
        print(json.dumps(info.raw, indent=2, sort_keys=True))
        return 0
    print("\n".join(map(shown, _lines(info))))
    return 0


def _lines(info: ModelInfo) -> Iterator[str]:
    """What a model.json says, in words."""
    spec = info.input
    clip = f", {spec.frames} frames {spec.step} apart" if spec.frames > 1 else ""
    yield f"{info.name}: {info.task}, {info.format}, {info.size_bytes} bytes, sha256 {info.sha256[:12]}"
    tensor = f"{spec.height} x {spec.width} {spec.color} {spec.dtype} {spec.layout}"
    yield f"input      {tensor}{clip}, resize: {spec.resize}"
    if spec.tiles.count > 1:
        grid = f"{spec.tiles.rows} x {spec.tiles.columns}, overlap {spec.tiles.overlap}"
        yield f"tiles      {grid}: a picture of {' x '.join(map(str, spec.geometry.canvas))}"
    for out in info.outputs:
        yield f"{out.meaning:<10} {out.height} x {out.width} x {out.channels} {out.dtype}"
    for state in info.state:
        yield f"state      {' x '.join(map(str, state.shape))} {state.dtype}"
    yield f"score      {info.score.rule}, smooth {info.score.smooth}, threshold {info.threshold:.6g}"
    yield f"           ({info.threshold_method})"
    for one in info.rates:
        unshown = "" if one.shown else ", too small to be shown by its validation pictures"
        shares = f"true rate {one.low:.2g} to {one.high:.2g}{unshown}"
        yield f"           threshold {one.value:.6g} for a false-alarm rate of {one.rate:g}: {shares}"
    yield f"cost       {info.params} parameters, {info.macs} multiply-accumulates"
    for key, value in sorted(info.made_by.items()):
        yield f"made by    {key}: {value}"


def _read(path: Path, guard: privacy.Guard | None, depth: int | None, max_pixels: int) -> Image:
    """The picture, through the guard where there is one."""
    image = read_image(path, depth, max_pixels)
    if guard is not None and guard(image) is None:
        raise ImageError(f"{path}: the face detector failed, so the picture is left out; see --on-failure")
    return image


def _images(path: Path) -> list[Path]:
    """The picture itself, or every picture in the folder and below it, sorted."""
    if not path.is_dir():
        return [path]
    found, left_out = find_pictures(path, deep=True)
    if not found:
        raise ImageError(f"{path}: holds no picture ({', '.join(SUFFIXES)})" + (f"; {left_out}" if left_out else ""))
    if left_out:
        console.complain(f"left out of {path}: {left_out}")
    return found


def _targets(where: str, root: Path, paths: list[Path]) -> dict[Path, Path]:
    """Where the overlay of each picture goes; UserError where one would replace anything but an overlay."""
    targets, folder = {}, Path(where)
    if not where or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise UserError(f"{where or repr(where)}: not a folder; choose one for overlays")
    for path in paths:
        name = str(path.relative_to(root)) if root.is_dir() else path.name
        targets[path] = folder / (name if name.endswith(".png") else f"{name}.png")
    outputs.check_overlays(folder, root, list(targets.values()), paths)
    return targets


def _draw(path: Path, image: Image, prediction: Prediction, found: list[overlay.Region], threshold: float) -> None:
    kind = f"{prediction.type.type}  " if prediction.type else ""
    text = f"{kind}{prediction.score:.2f} / {threshold:.2f}"
    picture = overlay.draw(image, prediction.map, threshold, found, prediction.is_defect, text)
    fine, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not fine:
        raise UserError(f"{path}: OpenCV writes no PNG of {picture.shape[1]} x {picture.shape[0]} px")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(outputs.marked(png.tobytes()))
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror or error}") from None

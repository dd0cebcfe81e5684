"""`python -m edge adopt KIND FILE FOLDER`: a model folder of a published detector or pose model."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from edge.errors import ModelError, UserError, shown
from edge.inference.formats import Format
from edge.inference.modelfile import sha256, write_folder
from edge.inference.runtimes import FORMATS, STORED
from edge.watch.models import TaskModel, parse
from edge.watch.objects import Yolox
from edge.watch.poses import MoveNet

NAMES = (  # of COCO's 80 classes, in the order of the output
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,"
    "snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,"
    "fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = NAMES.split(",")

# what is known of each family; size, layout and type of the input are the file's own
KINDS: dict[str, dict[str, Any]] = {
    "yolox": {
        "task": "detection",
        "decode": "yolox",
        "classes": COCO,
        "score": 0.3,
        "overlap": 0.45,
        "input": {"color": "bgr", "fit": "letterbox", "pad": 114, "mean": 0, "scale": 1},
    },
    "movenet": {
        "task": "pose",
        "decode": "movenet",
        "input": {"color": "rgb", "fit": "letterbox", "pad": 0, "mean": 0, "scale": 1},
    },
}
DECODERS = {"yolox": Yolox, "movenet": MoveNet}


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("adopt", help="make a model folder of a published detector or pose model")
    parser.add_argument("kind", choices=tuple(KINDS), help="what the file is: YOLOX with COCO's classes, or MoveNet")
    parser.add_argument("file", help="the .onnx or .tflite file")
    parser.add_argument("folder", help="the model folder to make; must not exist yet")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    folder = adopt(arguments.kind, Path(arguments.file), Path(arguments.folder))
    print(f"{shown(folder)}: a model folder of task {KINDS[arguments.kind]['task']}")
    return 0


def adopt(kind: str, file: Path, folder: Path) -> Path:
    """Makes the folder, and runs the model once; UserError, and no folder, for a file that is not of the kind."""
    form = _format(file)
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if os.path.lexists(folder):
        raise UserError(f"{folder}: exists; choose a name that is free")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        shutil.copyfile(file, temporary / form.files[0])
        layout, height, width, dtype, grid = _input(form, temporary / form.files[0], file)
        about = {key: value for key, value in KINDS[kind].items() if key != "input"}
        shape = {"height": height, "width": width, "layout": layout, "dtype": dtype}
        info = write_folder(
            temporary,
            {
                **about,
                "name": file.stem.replace(" ", "-"),
                "format": form.name,
                "file": form.files[0],
                "input": {**shape, **KINDS[kind]["input"], **grid},
            },
            parse,
        )
        try:
            DECODERS[info.decode](TaskModel(info))
        except ModelError as error:
            raise ModelError(str(error).replace(str(info.path), str(file))) from None
        os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"{folder}: can't be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _format(file: Path) -> Format:
    for name in STORED:
        form = FORMATS[name]
        if len(form.files) == 1 and file.suffix.lower() == Path(form.files[0]).suffix:
            return form
    raise UserError(f"{file}: must end in .onnx or .tflite")


def _input(form: Format, path: Path, given: Path) -> tuple[str, int, int, str, dict[str, float]]:
    """Layout, height, width and type of a file's only input, and `mean` and `scale` that bring pixels to the grid of an
    int8 one; UserError for one that takes no picture."""
    try:
        runtime = form.open(path, 1, sha256([path]))
    except ModelError as error:
        raise ModelError(str(error).replace(str(path), str(given))) from None
    shapes = [(tensor.shape, tensor.dtype) for tensor in runtime.inputs]
    grid: dict[str, float] = {}
    if shapes and shapes[0][1] == "int8" and runtime.inputs[0].scale:
        step = float(runtime.inputs[0].scale)
        grid = {"mean": -step * (runtime.inputs[0].zero_point or 0), "scale": 1 / step}
    shape, dtype = shapes[0] if len(shapes) == 1 else ((), "")
    if len(shape) == 4 and shape[0] == 1 and all(isinstance(side, int) for side in shape):
        _, a, b, c = (int(str(side)) for side in shape)
        if c == 3:
            return "nhwc", a, b, dtype, grid
        if a == 3:
            return "nchw", b, c, dtype, grid
    raise UserError(f"{given}: takes {shapes}; must take one picture [1, height, width, 3] or [1, 3, height, width]")

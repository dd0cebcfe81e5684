"""A tiny model with an embedding, pictures with spots of three colours for it, and a catalogue of them."""

from pathlib import Path

import numpy as np

from edge.defects import catalogue, files
from edge.inference.detector import load
from edge.inference.modelfile import write_model

SIZE = 16
COLOURS = {"blue": (0, 0, 1.0), "green": (0, 1.0, 0), "red": (1.0, 0, 0)}


def write(folder: Path, seed: int = 0, resize: str = "stretch") -> Path:
    """An ONNX model folder whose map [8, 8] is the brightness and whose embedding [4, 4, 6] mixes the colours."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    light = np.full((1, 3, 2, 2), 1 / 12, np.float32)
    mix = np.repeat(np.repeat(rng.normal(size=(6, 3, 1, 1)), 4, 2), 4, 3).astype(np.float32) / 16
    nodes = [
        helper.make_node("Conv", ["image", "light"], ["map"], strides=[2, 2]),
        helper.make_node("Conv", ["image", "mix"], ["embedding"], strides=[4, 4]),
    ]
    shapes = {"image": [1, 3, SIZE, SIZE], "map": [1, 1, 8, 8], "embedding": [1, 6, 4, 4]}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    weights = [numpy_helper.from_array(light, "light"), numpy_helper.from_array(mix, "mix")]
    graph = helper.make_graph(nodes, "typed", [info["image"]], [info["map"], info["embedding"]], weights)
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    grid = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    sides = {"map": (8, 8, 1), "embedding": (4, 4, 6)}
    outputs = [
        {"name": name, "meaning": name, "height": h, "width": w, "channels": c, **grid}
        for name, (h, w, c) in sides.items()
    ]
    image = {"height": SIZE, "width": SIZE, "color": "rgb", "frames": 1, "step": 1, "resize": resize}
    write_model(
        folder,
        {
            **{"task": "anomaly", "name": "typed", "file": "model.onnx", "format": "onnx", "state": []},
            "input": {**image, "layout": "nchw", "dtype": "float32", "scale": 1 / 255, "zero_point": 0},
            "outputs": outputs,
            "score": {"rule": "max", "smooth": 1, "sigma": 0.0},
            "threshold": {"value": 0.15, "method": "for a test"},
            "quantization": None,
            "cost": {"params": 300, "macs": 5000},
            "made_by": {},
        },
    )
    return folder


def spot(kind: str, seed: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture with a spot of that colour, uint8 [size, size, 3], and its mask."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 20, (size, size, 3))
    mask = np.zeros((size, size), bool)
    y, x = rng.integers(0, size - 5, 2)
    mask[y : y + 5, x : x + 5] = True
    if kind != "good":
        image[mask] += np.array(COLOURS[kind]) * rng.uniform(180, 230) + rng.uniform(0, 25, 3)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def make_catalogue(folder: Path, model: Path, each: int = 4, **changes) -> Path:
    """A catalogue of `each` spots of every colour, with its model."""
    import shutil

    detector = load(model)
    rules = {"model": detector.info.sha256, "dimensions": 6, "pooling": "region", "k": 3, "limit": 0.5} | changes
    draft = catalogue.Catalogue(folder, catalogue.Rules(**rules), np.zeros((0, 6), np.float32), ())
    vectors, points = [], []
    for kind in COLOURS:
        for i in range(each):
            prediction = detector.predict(spot(kind, 100 + i)[0])
            vector, box = draft.vector(prediction)
            vectors.append(vector)
            points.append(catalogue.Point(kind, f"{kind}/{i}.png", box, prediction.score))
    folder.mkdir(parents=True)
    shutil.copytree(model, folder / files.MODEL)
    catalogue.write_catalogue(folder, draft.rules, np.stack(vectors), points)
    return folder

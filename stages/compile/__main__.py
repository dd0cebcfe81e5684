"""Exports one variant into artifacts/models/<variant>: its files and model.json, checked and with a threshold."""

import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from edge.inference.detector import load as load_exported
from edge.inference.modelfile import write_model
from edge.inference.runtimes import FORMATS
from stages.common import atomic
from stages.common.dataset import evenly, load_pictures, load_samples, read_index, thinned
from stages.common.stage import fail, item, main
from stages.compile import fidelity
from stages.compile.build import Build
from stages.compile.exporters import exporter
from stages.compile.validation import validate
from stages.detectors.registry import load
from stages.training.synthetic_defects import training_pool
from stages.training.torch_setup import prepare

DATA, MODELS = Path("data/train"), Path("artifacts/models")
TOOLS = ("torch", "onnx", "onnx2tf", "tensorflow", "ai-edge-quantizer")


def compile_variant(params, name: str) -> None:
    p, variant = params.compile, getattr(params.variants, name)
    prepare(params.seed, params.threads)
    count = max(p.calibration_images, p.fidelity.images)
    train = load_samples(DATA, evenly(thinned(read_index(DATA, "train"), params.input), count), params.input)
    samples, _ = training_pool(train, count, params.seed, 2)
    items = read_index(DATA, "val")
    val = load_pictures(DATA, items, params.input)
    source = load(Path("artifacts") / variant.model)
    bad = read_index(DATA, "val", labels=(1,)) if source.supervised else []
    labelled = load_pictures(DATA, bad, params.input) if bad else None
    with atomic.directory(MODELS / name) as folder, tempfile.TemporaryDirectory() as work:
        build = Build(
            source,
            name,
            variant.format,
            variant.precision,
            samples[: p.calibration_images],
            folder,
            Path(work),
            p.edgetpu_compiler,
            p.embedding,
        )
        info = write(build, params)
        detector = load_exported(folder, threads=params.threads)
        if build.quantized:
            images = samples[: p.fidelity.images]
            info["quantization"]["fidelity"] = fidelity.check(detector, build.quantized, images, p.fidelity)
        begins = [not i or item.clip != items[i - 1].clip for i, item in enumerate(items)]
        found = validate(detector, val, p, params.seed, len({item.group for item in items}), labelled, begins)
        print(f"{name}: threshold {found['threshold']['value']:.4g}: {found['threshold']['method']}")
        write_model(folder, info | found)


def write(build: Build, params) -> dict:
    """Writes the files of a format and model.json; returns its content, still without fidelity, threshold and
    validation."""
    module = exporter(build.format)
    build.check(module.NODES_ONLY)
    more = module.write(build)
    form, spec, p = FORMATS[build.format], params.input, params.compile
    geometry, cost = spec.geometry, build.cost()
    sample = {"height": geometry.height, "width": geometry.width}
    frames, step = (1, 1) if build.states else (spec.frames, spec.step)  # a state has seen those before
    sample |= {"color": spec.color, "frames": frames, "step": step, "resize": geometry.fit}
    if spec.depth:
        sample["depth"] = spec.depth
    if geometry.tiles.count > 1:
        sample["tiles"] = asdict(geometry.tiles)
        cost["macs"] *= geometry.tiles.count  # of one picture
    info = {
        "task": "anomaly",
        "name": build.name,
        "file": form.files[0],
        "format": form.stored_as or form.name,
        "input": {**sample, **form.input_fields(build.precision)},
        "outputs": build.outputs(form.integer_io),
        "state": build.state(form),
        "score": {"rule": build.export.score_rule, "smooth": build.export.smooth or p.smooth, "sigma": p.map_sigma},
        "threshold": {"value": 0.0, "method": "not set yet"},
        "quantization": build.quantization(),
        "cost": cost,
        "made_by": {tool: version(tool) for tool in TOOLS},
        **({"warmup": build.warmup} if build.states else {}),
        **more,
    }
    write_model(build.folder, info)
    return info


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("compile", "give one variant of params.yaml, e.g. python -m stages.compile student-int8", 2)
    variant = item("compile", sys.argv[1])
    main(f"compile@{variant}", lambda params: compile_variant(params, variant))

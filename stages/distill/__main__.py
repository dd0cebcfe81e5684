"""Builds the student's start, trains it on synthetic defects and the teacher's embeddings, keeps what pays."""

from pathlib import Path
from types import SimpleNamespace

from stages.common import atomic
from stages.common.dataset import load_samples, read_index
from stages.common.params import read_yaml, validate
from stages.common.stage import main
from stages.detectors import poses
from stages.detectors.base import Run
from stages.detectors.memory_bank import part
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.registry import load
from stages.detectors.student import Student
from stages.detectors.student_init import found, widest_trunk
from stages.detectors.student_network import SOURCES, architecture
from stages.distill import examples
from stages.graph.network import Network
from stages.graph.prunable import check_prune_ratio
from stages.training import checkpoint
from stages.training.curves import curves
from stages.training.torch_setup import prepare

DATA, TEACHER = Path("data/train"), Path("artifacts/teacher")
OUT, START = Path("artifacts/student"), Path("artifacts/student-start")
EXAMPLES = Path("reports/curves/distill/defects.png")


def distill(params) -> None:
    check_pruning(params)
    prepare(params.seed, params.threads)
    train, val = (load_samples(DATA, read_index(DATA, split), params.input) for split in ("train", "val"))
    settings = SimpleNamespace(**params.student.model_dump(), **params.distill.model_dump())
    with curves("distill") as log:
        student = Student.fit(train, val, settings, Run(params.seed, "distill", log, load(TEACHER)))
    train = poses.joined(train, student.record, params.seed)
    examples.write(train, settings.images, params.seed, EXAMPLES)
    first = student.start or student
    start = QuantizedStudent.of(first, train, val, params.seed)
    with atomic.directory(START) as folder:
        start.save(folder)
    with atomic.directory(OUT) as folder:
        student.save(folder)
    checkpoint.clear("distill")


def check_pruning(params) -> None:
    """UserError when compress could not prune this student as much as it is to, which would show hours later.

    compress.prune_ratio is no declared param: it refuses, but changes no result, so that a change of it reruns nothing.
    """
    ratio = validate(read_yaml("params.yaml")).compress.prune_ratio
    channels, spec = 3 if params.input.color == "rgb" else params.input.frames, params.input.geometry
    init, widest = params.student.init, widest_trunk(params.student.init, params.distill.train_trunk)
    whole = Network(architecture(found(init)[0], params.student.width, widest), channels)
    embedded = {f"embed_{source}" for source in SOURCES}
    for kept in (whole, part(whole, {"mask"}), part(whole, embedded)):  # trained, a mask alone, or what it starts as
        check_prune_ratio(ratio, list(kept.nodes), (spec.height, spec.width), channels)


if __name__ == "__main__":
    main("distill", distill)

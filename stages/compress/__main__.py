"""Prunes and fine-tunes the student; then the int8 form of the pruned and of the whole one, calibrated or trained."""

from pathlib import Path
from types import SimpleNamespace

from stages.common import atomic
from stages.common.dataset import load_samples, read_index
from stages.common.stage import main
from stages.detectors.base import Run
from stages.detectors.imitation import Imitation
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.registry import load
from stages.detectors.student import Student
from stages.graph.prunable import check_prune_ratio
from stages.training import checkpoint
from stages.training.curves import curves
from stages.training.torch_setup import prepare

DATA, STUDENT = Path("data/train"), Path("artifacts/student")
QAT, PRUNED, PRUNED_QAT = Path("artifacts/qat"), Path("artifacts/pruned"), Path("artifacts/pruned-qat")


def compress(params) -> None:
    prepare(params.seed, params.threads)
    train, val = (load_samples(DATA, read_index(DATA, split), params.input) for split in ("train", "val"))
    settings = SimpleNamespace(**params.compress.model_dump(), images=params.distill.images, batch=params.distill.batch)
    with curves("compress") as log:
        run = Run(params.seed, "compress", log, load(STUDENT))
        imitation = Imitation(train, val, settings, run)
        student, train = imitation.student, imitation.train
        check_prune_ratio(settings.prune_ratio, imitation.body.nodes, train.shape[1:3], train.shape[3])

        def int8(whole, label):
            return QuantizedStudent.of(whole, train, val, run.seed, imitation, label)

        qat = int8(student, "qat")
        pruned, pruned_qat = student, qat
        if settings.prune_ratio:
            body = imitation.pruned()
            network, fusion = student.with_own_banks(body, body, train, val, run.seed)
            pruned = Student(network, {"fusion": fusion})
            pruned_qat = int8(pruned, "pruned_qat")
    for path, detector in ((QAT, qat), (PRUNED, pruned), (PRUNED_QAT, pruned_qat)):
        with atomic.directory(path) as folder:
            detector.save(folder)
    checkpoint.clear("compress")


if __name__ == "__main__":
    main("compress", compress)

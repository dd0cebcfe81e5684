"""The thresholds of an exported file and its AUROC on validation pictures, without test pictures."""

from collections.abc import Sequence

import numpy as np

from edge.inference.detector import Detector
from stages.common import verdicts
from stages.common.metrics import image_auroc
from stages.common.progress import track
from stages.compile import thresholds
from stages.compile.fidelity import started
from stages.training.validation_defects import damaged, family_aurocs


def validate(
    detector: Detector,
    good: Sequence[np.ndarray],
    settings,
    seed: int,
    groups: int | None = None,
    labelled: Sequence[np.ndarray] | None = None,
    begins: Sequence[bool] = (),
) -> dict:
    """The fields `threshold` and `validation` of model.json, from good validation pictures uint8 [H, W, C].

    The thresholds rest on all their scores: on the pictures on which a student's parts were weighed they are no lower
    than on the others (docs/own-data.md). `auroc` compares candidates without test pictures: the mean image AUROC of
    every second picture against families of synthetic defects in them, which neither training nor a choice used (the
    parts of a student's map were brought to one scale on all of them). settings: params.compile; groups: how many parts
    or clips the pictures show.

    begins: of frames, which of them are the first ones of a clip; a model with a state judges all of them as a device
    does, for its thresholds, and clips of a sample's length for `auroc`.

    labelled: real defects of validation, of a detector that learned from such; its score is a probability, and its
    threshold the one of verdicts.THRESHOLDS with the best F1 on all validation pictures.
    """
    if labelled is not None:
        return _validate_labelled(detector, good, labelled)
    judged = good[1::2] if len(good) > 1 else good
    defects = damaged(judged, seed + 1)
    found = _scores(detector, good, "validation")
    aurocs = family_aurocs(
        found[1::2] if len(good) > 1 else found,
        {name: _scores(detector, samples, f"validation, {name}") for name, samples in defects.items()},
    )
    if detector.info.state:
        found = _running(detector, good, begins)
    return {
        "threshold": thresholds.find(found, settings.false_alarm_rate, settings.threshold, seed, groups),
        "validation": {
            "auroc": aurocs["mean"],
            "good": len(judged),
            "defects": sum(map(len, defects.values())),
        },
    }


def _validate_labelled(detector: Detector, good: Sequence[np.ndarray], defects: Sequence[np.ndarray]) -> dict:
    scores = _scores(detector, [*good, *defects], "validation")
    labels = np.repeat([0, 1], [len(good), len(defects)])
    rows = verdicts.table(labels, scores)
    chosen = verdicts.best(rows)
    low, high = verdicts.THRESHOLDS[0], verdicts.THRESHOLDS[-1]
    method = (
        f"best F1 ({chosen['f1']:.3f}) of the thresholds {low} to {high} on {len(good)} good and {len(defects)} "
        "defective validation pictures"
    )
    counts = {"good": len(good), "defects": len(defects)}
    return {
        "threshold": {"value": chosen["threshold"], "method": method},
        "validation": {"auroc": image_auroc(labels, scores), **counts, "thresholds": rows},
    }


def _scores(detector: Detector, samples: Sequence[np.ndarray], label: str) -> np.ndarray:
    """Of a model with a state that of the last frame of each clip."""
    found = []
    for sample in track(samples, label):
        found.append([detector.predict(image).score for image in started(detector, sample)][-1])
    return np.array(found)


def _running(detector: Detector, clips: Sequence[np.ndarray], begins: Sequence[bool]) -> np.ndarray:
    """The scores of a model with a state for frames that follow each other, given as the clips that they end."""
    found = []
    for clip, new in zip(track(clips, "validation, frame by frame"), begins, strict=True):
        if new:
            detector.reset()
        found.append(detector.predict(clip[:, :, -detector.info.input.channels :]).score)
    return np.array(found)

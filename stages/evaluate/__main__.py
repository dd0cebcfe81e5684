"""`python -m stages.evaluate <variant>`: accuracy of the exported file, run by `edge` on every test picture."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.inference.detector import load
from stages.common import atomic, dataset, stage
from stages.common.metrics import average_precision, image_auroc
from stages.common.progress import track
from stages.evaluate import metrics
from stages.evaluate.masks import load_mask

TEST = Path("data/test")
SHOWN_SIDE = 64  # longer side of the maps kept for the report, in pixels


def run(params, variant: str) -> None:
    """Writes artifacts/eval/<variant>.json (accuracy) and .npz (scores and small maps of every test picture)."""
    items = dataset.read_index(TEST)
    detector = load(Path("artifacts/models") / variant, params.threads)
    info = detector.info
    height, width = info.input.height, info.input.width
    maps = np.empty((len(items), height, width), np.float32)
    scores, decisions = np.empty(len(items), np.float32), np.empty(len(items), bool)
    read = dataset.Samples(TEST, info.input, height, width)
    for i, item in enumerate(track(items, f"evaluate {variant}")):
        detector.reset()
        found = detector.predict(read(item))
        maps[i], scores[i], decisions[i] = found.map, found.score, found.is_defect
    if not (np.isfinite(maps).all() and np.isfinite(scores).all()):
        raise UserError(f"{info.path}: returns NaN or infinity on the test pictures; build the model again")
    masks = [load_mask(TEST, item, height, width) for item in items]
    atomic.write_json(
        f"artifacts/eval/{variant}.json",
        {
            "variant": variant,
            "how": "predicted (its int8 file on the CPU)" if info.edgetpu else "measured",
            **accuracy(items, scores, decisions),
            **pixel_accuracy(maps, masks, params.evaluate.aupro_fpr_limit),
            "threshold": info.threshold,
            "threshold_method": info.threshold_method,
            "validation": info.raw.get("validation"),
            "runtime": runtime_name(detector.details),
            "size_bytes": info.size_bytes,
            "params": info.params,
            "macs": info.macs,
            "fidelity": info.quantization.fidelity if info.quantization else None,
            "edgetpu": info.raw.get("edgetpu"),
        },
    )
    with atomic.file(f"artifacts/eval/{variant}.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            path=np.array([item.path for item in items]),
            label=np.array([item.label for item in items], np.int8),
            defect=np.array([item.defect for item in items]),
            score=scores,
            map=small(maps),
        )


def accuracy(items: list[dataset.Item], scores: np.ndarray, decisions: np.ndarray) -> dict:
    """The metrics of image scores; those that need good and defect pictures are None where one kind is missing."""
    labels = np.array([item.label for item in items], bool)
    defects = [item.defect for item in items]
    both = labels.any() and not labels.all()
    return {
        "images": {"good": int((~labels).sum()), "defect": int(labels.sum())},
        "image_auroc": image_auroc(labels, scores) if both else None,
        "average_precision": average_precision(labels, scores) if both else None,
        **(metrics.decision_metrics(labels, decisions) if both else {"f1": None, "precision": None, "recall": None}),
        "per_defect": metrics.per_defect_auroc(defects, scores) if both else {},
    }


def pixel_accuracy(maps: np.ndarray, masks: list, fpr_limit: float) -> dict:
    """The metrics of maps [N, H, W] over good pictures and defects that have a mask; None where no defect has one."""
    known = [i for i, mask in enumerate(masks) if mask is not None]
    truth = np.stack([masks[i] for i in known]) if known else np.zeros(0, bool)
    found: Mapping[str, float | None] = {"pixel_auroc": None, "aupro": None}
    if truth.any() and not truth.all():
        found = metrics.pixel_metrics(maps if len(known) == len(maps) else maps[known], truth, fpr_limit)
    marked = int(truth.any(axis=(1, 2)).sum()) if known else 0
    return {**found, "aupro_fpr_limit": fpr_limit, "masks": marked}


def runtime_name(details: dict) -> str:
    """E.g. "ai_edge_litert 2.1.0, XNNPACK"."""
    text = f"{details['name']} {details['version']}"
    return f"{text}, {details['delegate']}" if details.get("delegate") else text


def small(maps: np.ndarray) -> np.ndarray:
    """The maps [N, H, W] shrunk to at most SHOWN_SIDE pixels to a side (means of areas), as float16."""
    height, width = maps.shape[1:]
    scale = min(1, SHOWN_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    limit = np.finfo(np.float16).max
    shrunk = [cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in maps]
    return np.clip(shrunk, -limit, limit).astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("variant", help="a key of variants in params.yaml")
    variant = stage.item("evaluate", parser.parse_args().variant)
    stage.main(f"evaluate@{variant}", partial(run, variant=variant))


if __name__ == "__main__":
    main()

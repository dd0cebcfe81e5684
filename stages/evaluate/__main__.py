"""`python -m stages.evaluate <variant>`: accuracy of the exported file, run by `edge` on every test picture."""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.modelinfo import ModelInfo
from edge.inference.runtimes import DELEGATES
from stages.common import atomic, dataset, stage, verdicts
from stages.common.masks import load_mask, shrink
from stages.common.metrics import average_precision, image_auroc
from stages.common.progress import track
from stages.evaluate import clips, metrics, regions
from stages.evaluate.pixels import PixelAccuracy

TEST, OUT = Path("data/test"), Path("artifacts/eval")
SHOWN_SIDE = 64  # longer side of the maps kept for the report, in pixels


def run(params, variant: str) -> None:
    """Writes artifacts/eval/<variant>.json (accuracy) and .npz (scores and small maps of every test picture)."""
    items = sorted(dataset.read_index(TEST), key=lambda item: (item.clip, item.frame))  # pictures stay as they are
    detector = load(Path("artifacts/models") / variant, params.threads)
    info = detector.info
    kept = shown_size(*info.input.geometry.canvas)
    scores, decisions = np.empty(len(items), np.float32), np.empty(len(items), bool)
    shown = np.empty((len(items), *kept), np.float16)
    read = dataset.Samples(TEST, info.input)
    with PixelAccuracy(TEST, items, info, params.evaluate.resolution, OUT) as pixels:
        for i, item in enumerate(track(items, f"evaluate {variant}")):
            if not (i and item.clip and item.clip == items[i - 1].clip):  # a state goes on through a clip
                detector.reset()
            sample, size = read.with_size(item)
            found = detector.judge(sample, size)
            if not (np.isfinite(found.map).all() and np.isfinite(found.score)):
                raise UserError(f"{info.path}: returns NaN or infinity on the test pictures; build the model again")
            scores[i], decisions[i], shown[i] = found.score, found.is_defect, small(found.map, kept)
            pixels.see(item, size, found)
        compared = pixels.measure(params.evaluate.aupro_fpr_limit)
    labels = np.array([item.label for item in items], bool)
    atomic.write_json(
        OUT / f"{variant}.json",
        {
            "variant": variant,
            "test_index_sha256": dataset.sha256(TEST / "index.csv"),
            "how": "predicted (its int8 file on the CPU)" if info.edgetpu else "measured",
            **accuracy(items, scores, decisions),
            **compared,
            **({"video": video(items, scores, shown, info.threshold, params.evaluate)} if items[0].clip else {}),
            "threshold": info.threshold,
            "threshold_method": info.threshold_method,
            "false_alarm_rate": info.raw["threshold"].get("rate"),
            "confusion": metrics.confusion(labels, scores, info.threshold),
            "thresholds": [asdict(one) | metrics.confusion(labels, scores, one.value) for one in info.rates],
            **({"verdicts": verdicts.table(labels, scores)} if chosen_among_several(info) else {}),
            "validation": info.raw.get("validation"),
            "runtime": runtime_name(detector.details),
            "size_bytes": deployed_bytes(info),
            "params": info.params,
            "macs": info.macs,
            **({"tiles": info.input.tiles.count} if info.input.tiles.count > 1 else {}),
            "fidelity": info.quantization.fidelity if info.quantization else None,
            "edgetpu": info.raw.get("edgetpu"),
        },
    )
    with atomic.file(OUT / f"{variant}.npz") as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            path=np.array([item.path for item in items]),
            label=np.array([item.label for item in items], np.int8),
            defect=np.array([item.defect for item in items]),
            clip=np.array([item.clip for item in items]),
            frame=np.array([item.frame for item in items]),
            score=scores,
            map=shown,
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


def video(items: list[dataset.Item], scores: np.ndarray, maps: np.ndarray, threshold: float, settings) -> dict:
    """What only clips have: frame AUCs, events and alarms at the validation threshold, RBDC and TBDC on small maps."""
    found = clips.by_clip(items, scores)
    height, width = maps.shape[1:]
    seen = []
    for item, map in zip(items, maps, strict=True):
        mask = load_mask(TEST, item, height, width)
        if mask is None:  # an anomaly whose pixels nobody marked
            continue
        truth = mask if mask.shape == (height, width) else shrink(mask, height, width)
        seen.append(regions.Frame(item.clip, map.astype(np.float32), truth))
    return {
        "frame_auc": clips.frame_auc(found),
        "events": clips.event_metrics(found, threshold, settings.frames_per_second),
        **regions.criteria(seen),
    }


def chosen_among_several(info: ModelInfo) -> bool:
    """Whether validation chose the threshold among several, as for a supervised detector."""
    return bool((info.raw.get("validation") or {}).get("thresholds"))


def deployed_bytes(info: ModelInfo) -> int:
    """The bytes of what a device loads: of the file compiled for an accelerator, where the variant has one."""
    compiled = [name for name in DELEGATES if getattr(getattr(info, name, None), "file", None)]
    return info.compiled(compiled[0]).stat().st_size if compiled else info.size_bytes


def runtime_name(details: dict) -> str:
    """E.g. "ai_edge_litert 2.1.0, XNNPACK"."""
    text = f"{details['name']} {details['version']}"
    return f"{text}, {details['delegate']}" if details.get("delegate") else text


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the small maps: SHOWN_SIDE pixels to a side at most."""
    scale = min(1, SHOWN_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def small(map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The map [H, W] shrunk to the size that is kept (means of areas), as float16; of a letterboxed picture stretched,
    as the report's square cells are."""
    limit = np.finfo(np.float16).max
    shrunk = cv2.resize(map, size[::-1], interpolation=cv2.INTER_AREA)
    return np.clip(shrunk, -limit, limit).astype(np.float16)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("variant", help="a key of variants in params.yaml")
    variant = stage.item("evaluate", parser.parse_args().variant)
    stage.main(f"evaluate@{variant}", partial(run, variant=variant))


if __name__ == "__main__":
    main()

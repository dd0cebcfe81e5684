"""A made-up project folder that `report` can read: test pictures, results of evaluate and benchmark."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import yaml
from conftest import ROOT

from stages.common import dataset, params, schema
from stages.distill import examples
from stages.evaluate.metrics import confusion
from stages.illustrate.__main__ import run as illustrate
from stages.report import figures
from stages.report.__main__ import run as report

VARIANTS = {  # name: (step of compression, AUROC, bytes)
    "teacher-onnx": (None, 0.991, 61_000_000),
    "student-fp32": ("float", 0.972, 9_200_000),
    "student-int8": ("int8", 0.966, 1_700_000),
    "pruned-fp32": ("pruned", 0.968, 5_900_000),
}
LATENCY = {"teacher-onnx": 58, "student-fp32": 4.1, "pruned-fp32": 2.9, "student-int8": 1.3}
BOARD = {"board-student-fp32": "student-fp32", "board-student-int8": "student-int8"}


def weave(size, defect, seed):
    """A grey picture with a square for its defect, and the mask."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(90, 130, (size, size)).astype(np.uint8), np.zeros((size, size), bool)
    if defect != "good":
        x, y = rng.integers(size // 8, size // 2, 2)
        mask[y : y + size // 4, x : x + size // 5] = True
        image[mask] = rng.integers(180, 230)
    return image, mask


def make(root: Path, size=48, draw=weave, types=("crack", "stain", "hole"), per_type=4, masks=True) -> schema.Schema:
    """Writes the project; returns the params of the report stage."""
    folder = root / "data/test"
    items = []
    kept = []
    for defect in ["good", *types]:
        (folder / defect).mkdir(parents=True)
        for i in range(per_type):
            image, mask = draw(size, defect, i)
            name, mask_name = f"{defect}/{i}.png", f"{defect}/{i}_mask.png" if masks and defect != "good" else ""
            cv2.imwrite(str(folder / name), image)
            if mask_name:
                cv2.imwrite(str(folder / mask_name), mask * np.uint8(255))
            digest = dataset.sha256(folder / name)
            items.append(dataset.Item(name, "test", int(defect != "good"), defect, mask_name, digest, name))
            kept.append(mask)
    dataset.write_index(folder, items)
    for k, name in enumerate(VARIANTS):
        _evaluation(root, k, name, items, kept, masks)
    plan = {f"local-{name}": {"device": "local", "variant": name} for name in VARIANTS}
    plan |= {item: {"device": "board", "variant": name} for item, name in BOARD.items()}
    plan["edgetpu-student-int8"] = {"device": "edgetpu", "variant": "student-int8"}
    for k, (item, entry) in enumerate(plan.items()):
        _benchmark(root, k, item, **entry)
    (root / "hardware_runners").mkdir()
    (root / "hardware_runners/plan.yaml").write_text(yaml.safe_dump({"plan": plan}, sort_keys=False))
    _curve(root / "reports/curves/distill/plots/metrics", "loss")
    _curve(root / "reports/curves/compress/plots/metrics", "loss")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    examples.write(pictures, 8, 0, root / figures.DEFECTS)
    shutil.copy(ROOT / "params.yaml", root / "params.yaml")
    variants = {
        name: {"model": name, "precision": "int8" if "int8" in name else "float32", "format": "tflite"}
        | ({"role": "student", "step": step} if step else {"role": "teacher"})
        for name, (step, *_) in VARIANTS.items()
    }
    return params.validate(yaml.safe_load((ROOT / "params.yaml").read_text()) | {"variants": variants})


def run(made: schema.Schema) -> None:
    """What `dvc repro` runs of these results, in the folder that holds them."""
    illustrate(made)
    report(made)


def write(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _evaluation(root: Path, k: int, name: str, items, masks, with_masks: bool) -> None:
    rng = np.random.default_rng(k)
    _, auroc, size = VARIANTS[name]
    side = min(64, masks[0].shape[0])
    level = 20.0 if k == 0 else 0.3
    maps = []
    for mask in masks:
        noise = cv2.GaussianBlur(rng.random((side, side)), (0, 0), 2)
        spot = cv2.resize(mask.astype(float), (side, side), interpolation=cv2.INTER_AREA)
        maps.append(level * (0.3 + 0.8 * noise + rng.uniform(0.1, 1) * cv2.GaussianBlur(spot, (0, 0), 0.8)))
    maps = np.stack(maps)
    scores, labels = maps.max(axis=(1, 2)).astype(np.float32), np.array([item.label for item in items], bool)
    rates = [
        {"rate": rate, "value": factor * level, "low": 0.001, "high": 0.2, "shown": rate > 0.01}
        for rate, factor in ((0.01, 1.0), (0.02, 0.95), (0.05, 0.9), (0.1, 0.8))
    ]
    defects = sorted({item.defect for item in items} - {"good"})
    found = {
        "test_index_sha256": dataset.sha256(root / "data/test/index.csv"),
        **{"variant": name, "how": "measured", "image_auroc": auroc, "average_precision": auroc - 0.01},
        "validation": {"auroc": round(auroc - 0.05, 3), "good": 10, "defects": 200},
        **{"f1": 0.91, "precision": 0.9, "recall": 0.92, "threshold": 0.95 * level, "threshold_method": "quantile"},
        **{"false_alarm_rate": 0.02, "confusion": confusion(labels, scores, 0.95 * level)},
        "thresholds": [rate | confusion(labels, scores, rate["value"]) for rate in rates],
        **{"pixel_auroc": 0.95 if with_masks else None, "aupro": 0.87 if with_masks else None},
        "pixel_resolution": "full",
        "per_defect": {defect: auroc - 0.02 * i for i, defect in enumerate(defects)},
        "images": {"good": sum(i.label == 0 for i in items), "defect": sum(i.label for i in items)},
        **{"runtime": "ai_edge_litert 2.0", "size_bytes": size, "params": size // 4, "macs": size * 30},
    }
    if "int8" in name:
        kernels = {"exact": 0.76, "within_1": 0.99, "max_lsb": 2}
        found["fidelity"] = {"kernel": "ai_edge_litert XNNPACK", "images": 64, "exact": 0.9975, "within_1": 1.0}
        found["fidelity"] |= {"max_lsb": 1, "reference_kernels": kernels}
        left = [{"op": "RESIZE_BILINEAR", "index": 40, "why": "x 16 is too much", "source": "observed"}]
        found["edgetpu"] = {"how": "predicted", "ops": 43, "mapped": 42, "cpu": left, "parameter_bytes": 260676}
    write(root / f"artifacts/eval/{name}.json", found)
    np.savez(
        root / f"artifacts/eval/{name}.npz",
        path=np.array([item.path for item in items]),
        label=np.array([item.label for item in items], np.int8),
        defect=np.array([item.defect for item in items]),
        score=scores,
        map=maps.astype(np.float16),
    )


def _benchmark(root: Path, k: int, item: str, device: str, variant: str) -> None:
    out = {"device": device, "variant": variant}
    if device == "edgetpu":
        write(root / f"artifacts/bench/{item}.json", {**out, "status": "unavailable", "reason": "no such device here"})
        return
    rng = np.random.default_rng(k)
    blocks = []
    for threads in (1, 2):
        base = LATENCY[variant] * (3.2 if device == "board" else 1) / threads**0.7
        samples = base * (1 + rng.gamma(2, 0.03, 100))
        p = dict(zip(("p50", "p90", "p99"), np.percentile(samples, [50, 90, 99]).tolist(), strict=True))
        block = {"threads": threads, "runs": 100, "latency_ms": p, "samples_ms": samples.tolist(), "init_ms": 12.5}
        block |= {"predict_ms": {"p50": p["p50"] * 1.1, "runs": 50}, "peak_rss_mb": 81.2}
        blocks.append({**block, "oversubscribed": False})
    energy = {"value_mj": None, "method": "none", "reason": "no energy source for this device"}
    if device == "board":
        energy = {"value_mj": 21.5 if variant == "student-fp32" else 8.4, "method": "power profile", "how": "estimated"}
    if item == "local-student-int8":
        energy = {"value_mj": 11.0, "method": "rapl", "reason": None}
    machine = {"platform": "Linux", "architecture": "aarch64", "cpu": "Made-up CPU", "cores": 4, "memory_mb": 3906.25}
    machine["int8"] = "asimddp"
    out |= {"status": "ok", "how": "measured", "size_bytes": VARIANTS[variant][2], "params": 1, "macs": 2, "threads": 1}
    out |= {"init_ms": 12.5, "warmup_ms": {"first": 9.1, "total": 60.0}, "latency_ms": blocks[0]["latency_ms"]}
    out |= {"predict_ms": blocks[0]["predict_ms"]["p50"], "peak_rss_mb": 81.2, "blocks": blocks, "energy": energy}
    out |= {"machine": {**machine, "load_average": 0.1 * k}, "runtime": {"name": "ai_edge_litert", "version": "2.0"}}
    write(root / f"artifacts/bench/{item}.json", out)


def _curve(folder: Path, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / f"{name}.tsv").write_text(f"step\t{name}\n" + "".join(f"{i}\t{1 / (i + 1)}\n" for i in range(12)))

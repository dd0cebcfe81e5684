"""The results of a run: one per variant and device, each figure with how it came about."""

import json
from pathlib import Path

from edge.errors import UserError
from stages.report import resolution
from stages.report.dependencies import read_plan

ACCURACY = ("image_auroc", "average_precision", "f1", "pixel_auroc", "aupro")
COST = ("size_bytes", "params", "macs")
LOAD = ("init_ms", "warmup_ms", "predict_ms", "peak_rss_mb")
PERCENTILES = ("p50", "p90", "p99")


def read_json(path: str | Path):
    """The content of a JSON file that an earlier stage wrote; UserError when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None


def read_benches(variants) -> dict[str, dict]:
    """The benchmark of every item of the plan, in its order; UserError when the plan names an unknown variant."""
    plan = read_plan(variants)
    return {item: {**read_json(f"artifacts/bench/{item}.json"), **entry} for item, entry in plan.items()}


def results(evals: dict[str, dict], benches: dict[str, dict], dataset: str) -> list[dict]:
    """One per variant and device; a variant that no device ran gets one without a device, for its accuracy."""
    out = []
    for variant, found in evals.items():
        mine = [bench for bench in benches.values() if bench["variant"] == variant]
        if not any(bench["status"] == "ok" for bench in mine):
            out.append(_result(found, {"device": None, "status": "no device", "reason": "no device ran it"}, dataset))
        out += [_result(found, bench, dataset) for bench in mine]
    return out


def _result(found: dict, bench: dict, dataset: str) -> dict:
    ok, unavailable = bench["status"] == "ok", bench["status"] == "unavailable"
    why = f"not measured ({bench.get('reason') or bench['status']})"
    block = main_block(bench) if ok else {}
    others = [b for b in bench["blocks"] if b is not block] if ok else []
    energy = bench.get("energy") or {}
    energy = {key: energy.get(key) for key in ("value_mj", "method", "reason")}
    if not ok:
        energy = {"value_mj": None, "method": "none", "reason": bench.get("reason")}
    return {
        "variant": found["variant"],
        "device": bench["device"],
        "status": bench["status"],
        "reason": bench.get("reason"),
        "dataset": dataset,
        **{key: None if unavailable else found.get(key) for key in ACCURACY},
        "pixel_resolution": None if unavailable else resolution.of(found),
        **{key: None if unavailable else found.get(key, bench.get(key)) for key in COST},
        **({"tiles": found["tiles"]} if "tiles" in found else {}),
        **({"size_bytes": bench["size_bytes"]} if ok else {}),  # of what ran there: an accelerator has its own file
        "threads": block.get("threads"),
        "latency_ms": _percentiles(block) if ok else None,
        "latency_ms_threads": {str(b["threads"]): _percentiles(b) for b in others},
        **{key: bench.get(key) if ok else None for key in LOAD},
        "energy": energy,
        "how": {
            "accuracy": why if unavailable else found["how"],
            "latency": bench.get("how", "measured") if ok else why,
            "energy": how_energy(energy, bench.get("energy") or {}) if ok else why,
        },
    }


def main_block(bench: dict) -> dict:
    """The block of runs on one thread, or on the fewest."""
    return min(bench["blocks"], key=lambda block: block["threads"])


def _percentiles(block: dict) -> dict:
    out = {key: block["latency_ms"][key] for key in PERCENTILES}
    return {**out, "oversubscribed": True} if block.get("oversubscribed") else out


def how_energy(energy: dict, raw: dict) -> str:
    """measured, estimated or predicted (method), or not measured (why)."""
    if energy["value_mj"] is None:
        return f"not measured ({energy['reason'] or 'no meter'})"
    method = energy["method"] or "unknown method"
    if raw.get("source"):  # a figure of hardware_runners
        return f"{method} ({raw['source']}: {raw['scope']}{', net of idling' if method == 'measured' else ''})"
    kind = raw.get("how") or ("estimated" if "estimat" in method or method == "unknown method" else "measured")
    return f"{kind} ({method})"


def flat_metrics(results: list[dict]) -> dict:
    """{variant: {accuracy and size, device: {latency}}} with numbers alone, for `dvc metrics show` and `diff`."""
    out: dict = {}
    for result in results:
        if result["status"] == "unavailable":
            continue
        values = out.setdefault(result["variant"], _numbers(result, (*ACCURACY, *COST)))
        if result["status"] == "ok" and result["how"]["latency"] != "emulated":
            device = {f"{key}_ms": result["latency_ms"][key] for key in PERCENTILES} | _numbers(result, LOAD)
            energy = result["energy"]["value_mj"]
            values[result["device"]] = device if energy is None else {**device, "energy_mj": energy}
    return out


def _numbers(result: dict, keys) -> dict:
    return {resolution.flat_key(key, result): result[key] for key in keys if isinstance(result[key], (int, float))}

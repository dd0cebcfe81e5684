"""One row of the benchmark: a variant on a device, each figure with how it came about."""

from __future__ import annotations

from edge.modelfile import ModelInfo
from hardware_runners.errors import RunnerError


def row(device: dict, variant: str, info: ModelInfo, measured: dict) -> dict:
    """The row for what `remote.measure` found on `device`; the headline figures are those of the first block."""
    if measured["sha256"] != info.sha256:
        raise RunnerError(f"device {device['name']}: measured another file than {info.path}; run it again")
    first = measured["blocks"][0]
    return {
        "device": device["name"],
        "variant": variant,
        "status": "ok",
        "how": "measured",
        "sha256": info.sha256,
        "size_bytes": info.size_bytes,
        "params": info.params,
        "macs": info.macs,
        "threads": first["threads"],
        "init_ms": first["init_ms"],
        "warmup_ms": first["warmup_ms"],
        "latency_ms": {key: first["latency_ms"][key] for key in ("p50", "p90", "p99")},
        "predict_ms": first["predict_ms"]["p50"],
        "peak_rss_mb": first["peak_rss_mb"],
        "blocks": measured["blocks"],
        "machine": measured["machine"],
        "runtime": measured["runtime"],
        "energy": no_energy(device),
    }


def no_energy(device: dict) -> dict:
    """The energy figure of a device without a source: none, and why."""
    reason = (device.get("energy") or {}).get("reason") or "no energy source for this device"
    return {"value_mj": None, "method": "none", "reason": reason}

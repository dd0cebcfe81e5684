"""One row of the benchmark: a variant on a device, each figure with how it came about."""

from __future__ import annotations

from typing import Any

from edge.inference.modelinfo import ModelInfo
from edge.inference.runtimes import DELEGATES
from hardware_runners.runner.devices import Device
from hardware_runners.runner.energy import estimate
from hardware_runners.runner.errors import RunnerError, Unavailable


def row(device: Device, variant: str, info: ModelInfo, measured: dict[str, Any]) -> dict[str, Any]:
    """The row for what was measured on `device`; the headline figures are those of the first block."""
    if measured["sha256"] != info.sha256:
        raise RunnerError(f"device {device.name}: measured another file than {info.path}; run it again")
    first = measured["blocks"][0]
    return {
        "device": device.name,
        "variant": variant,
        "status": "ok",
        "how": "emulated" if device.emulated else "measured",
        "sha256": info.sha256,
        "size_bytes": size(device, info),
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
        "energy": energy(device, info, measured.get("energy")),
    }


def size(device: Device, info: ModelInfo) -> int:
    """The bytes of what ran there: of the file compiled for the device's accelerator, where it has one."""
    compiled = [info.compiled(name) for name in DELEGATES if name in device.runtime]
    return compiled[0].stat().st_size if compiled else info.size_bytes


def unavailable(name: str, variant: str, error: Unavailable) -> dict[str, str]:
    """The row of a device that could not be measured now."""
    return {"device": name, "variant": variant, "status": "unavailable", "reason": str(error)}


def energy(device: Device, info: ModelInfo, found: dict[str, Any] | None) -> dict[str, Any]:
    """What the device's source gave, an estimate where the inventory asks for one, else none with the reason."""
    if found and found.get("value_mj") is not None:
        return found
    if device.energy.source == "estimate":
        weights = size(device, info) * info.input.tiles.count  # read anew for each tile
        return estimate.estimate(info.macs, weights, "int8" if info.quantization else "float32")
    reason = (found or {}).get("reason") or device.energy.reason or "no energy source for this device"
    return {"value_mj": None, "method": "none", "reason": reason}

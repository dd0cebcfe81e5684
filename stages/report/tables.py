"""The tables of accuracy and of devices as text, and the notes that say how their figures came about."""

from collections.abc import Iterable

from stages.report import resolution
from stages.report.formatting import NONE, count, kind, markdown_table, score, significant, size
from stages.report.summary import ACCURACY, COST, PERCENTILES

ACCURACY_HEAD = ("Variant", "AUROC", "AP", "F1", "Pixel AUROC", "AUPRO", "Size", "Params", "MACs")
DEVICE_HEAD: tuple[str, ...] = (
    "Variant",
    "Device",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "p50 ms by threads",
    "p50 ms with scoring",
)
DEVICE_HEAD += ("Load ms", "First ms", "Memory", "Energy")
COMPACT_HEAD = ("Variant", "Device", "AUROC", "AUPRO", "F1", "Size", "p50 ms", "p90 ms", "Memory", "Energy")


def accuracy_head(evals: dict) -> tuple[str, ...]:
    """The names of the columns; those of pixels say at which resolution."""
    return resolution.head(ACCURACY_HEAD, evals.values())


def accuracy_rows(evals: dict) -> list[dict]:
    """{plain, variant, cells, best} of every variant; `best` says of each cell whether no other variant does better,
    which isn't asked of figures at different resolutions."""
    keys = (*ACCURACY, *COST)
    mixed = resolution.KEYS if len(resolution.all_of(evals.values())) > 1 else ()
    form = dict.fromkeys(ACCURACY, score) | {"size_bytes": size, "params": count, "macs": count}
    best = {}
    for key in keys:
        values = {found[key] for found in evals.values() if found.get(key) is not None}
        if len(values) > 1 and key not in mixed:  # nothing is best where all are equal
            best[key] = min(values) if key in COST else max(values)
    out = []
    for name, found in evals.items():
        marks = {key: resolution.mark(found, evals.values()) for key in resolution.KEYS if found.get(key) is not None}
        cells = [form[key](found.get(key)) + marks.get(key, "") for key in keys]
        best_of = [key in best and found.get(key) == best[key] for key in keys]
        out.append({"plain": [name, *cells], "variant": name, "cells": cells, "best": best_of})
    return out


def device_rows(results: list[dict]) -> list[dict]:
    """{plain, variant, device, cells, energy, how} of every result on a device; of one without figures {plain, variant,
    device, absent}."""
    out = []
    for result in results:
        if not result["device"]:
            continue
        row = {"variant": result["variant"], "device": result["device"]}
        if result["status"] == "ok":
            value = result["energy"]["value_mj"]
            row |= {"cells": device_cells(result), "how": result["how"]}
            row["energy"] = "" if value is None else significant(value, " mJ")
            cells = [*row["cells"], energy_text(result)]
        else:
            row["absent"] = f"{result['status']}: {result['reason']}"
            cells = [row["absent"], *[""] * (len(DEVICE_HEAD) - 3)]
        out.append(row | {"plain": [row["variant"], row["device"], *cells]})
    return out


def device_cells(result: dict) -> list[str]:
    """The figures of a result that ran, between device and energy."""
    threads = [
        f"{count}: {significant(found['p50'])}{' (more than cores)' if found.get('oversubscribed') else ''}"
        for count, found in sorted(result["latency_ms_threads"].items(), key=lambda pair: int(pair[0]))
    ]
    return [
        *(significant(result["latency_ms"][key]) for key in PERCENTILES),
        ", ".join(threads) or NONE,
        significant(result["predict_ms"]),
        significant(result["init_ms"]),
        significant((result["warmup_ms"] or {}).get("first")),
        significant(result["peak_rss_mb"], " MiB"),
    ]


def energy_text(result: dict) -> str:
    """The energy of an inference with how it came about, e.g. "3.2 mJ, estimated"."""
    value = result["energy"]["value_mj"]
    return "not measured" if value is None else f"{significant(value, ' mJ')}, {kind(result['how']['energy'])}"


def compact(results: list[dict]) -> str:
    """The results as one Markdown table of the figures that matter most."""
    rows = []
    for result in results:
        name = [result["variant"], result["device"] or NONE]
        auroc, aupro, f1 = (score(result[key]) for key in ("image_auroc", "aupro", "f1"))
        accuracy = [auroc, aupro if aupro == NONE else aupro + resolution.mark(result, results), f1]
        if result["status"] == "unavailable":
            rows.append([*name, f"unavailable: {result['reason']}", *[""] * 7])
            continue
        costs = [NONE] * 4
        if result["status"] == "ok":
            p50, p90, *_, memory = device_cells(result)
            costs = [p50, p90, memory, energy_text(result)]
        rows.append([*name, *accuracy, size(result["size_bytes"]), *costs])
    return markdown_table(resolution.head(COMPACT_HEAD, results), rows)


def accuracy_note(evals: dict) -> str:
    """How the figures of the accuracy table came about."""
    others = [f"{name}: {found['how']}." for name, found in evals.items() if kind(found["how"]) != "measured"]
    pixels = resolution.note(evals.values(), "Pixel AUROC and AUPRO")
    how = "Measured on the exported files, with the code that runs on the device."
    return " ".join([how, *pixels, *others, *tiles_note(evals.values(), "MACs")])


def latency_note(results: list[dict]) -> str:
    """How the figures of the device table came about."""
    ran = [result for result in results if result["status"] == "ok"]
    if not ran:
        return "No device could run a variant: latency, memory and energy are not measured."
    kinds = " or ".join(sorted({result["how"]["latency"] for result in ran}))
    threads = sorted({result["threads"] for result in ran})
    on = "one thread" if threads == [1] else f"{' or '.join(map(str, threads))} threads"
    how = f"Latency of one inference on {on} and peak memory of the process: {kinds} on the device."
    return " ".join([how, *tiles_note(ran, "Latency and energy")])


def tiles_note(results: Iterable[dict], figures: str) -> list[str]:
    """Which figures are of several inferences, as one sentence; none where every picture is one."""
    counts = {result["variant"]: result["tiles"] for result in results if result.get("tiles")}
    found = [f"{count} tiles ({name})" for name, count in counts.items()]
    return [f"{figures} are of a whole picture, which is {', '.join(found)}."] if found else []


def energy_notes(results: list[dict]) -> list[str]:
    """Why energy was not measured or only estimated, with the results that this holds for."""
    out: dict[str, list[str]] = {}
    ran = [result for result in results if result["status"] == "ok"]
    for result in ran:
        if kind(result["how"]["energy"]) != "measured":
            note = f"Energy {result['how']['energy']}"
            out.setdefault(note, []).append(f"{result['variant']} on {result['device']}")
    return [note if len(names) == len(ran) else f"{note}: {', '.join(names)}" for note, names in out.items()]

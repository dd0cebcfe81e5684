"""The rows of the report: one per variant and device, every figure with how it came about; and their Markdown."""

import json
from pathlib import Path

from edge.errors import UserError
from stages.common.params import read_yaml

ACCURACY = ("image_auroc", "average_precision", "f1", "pixel_auroc", "aupro")
COST = ("size_bytes", "params", "macs")
LOAD = ("init_ms", "warmup_ms", "predict_ms", "peak_rss_mb")
PERCENTILES = ("p50", "p90", "p99")
NONE = "\u2013"  # an en dash
TEXT_COLUMNS = ("Variant", "Device", "Step", "Changed", "Run", "Model")  # to the left


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
    plan = (read_yaml("hardware_runners/plan.yaml") or {}).get("plan") or {}
    for item, entry in plan.items():
        if entry["variant"] not in variants:
            raise UserError(f"hardware_runners/plan.yaml: {item}: variant {entry['variant']} is not in params.yaml")
    return {item: {**read_json(f"artifacts/bench/{item}.json"), **entry} for item, entry in plan.items()}


def rows(evals: dict[str, dict], benches: dict[str, dict], dataset: str) -> list[dict]:
    """One row per variant and device; a variant that no device ran gets one without a device, for its accuracy."""
    out = []
    for variant, found in evals.items():
        mine = [bench for bench in benches.values() if bench["variant"] == variant]
        if not any(bench["status"] == "ok" for bench in mine):
            out.append(_row(found, {"device": None, "status": "no device", "reason": "no device ran it"}, dataset))
        out += [_row(found, bench, dataset) for bench in mine]
    return out


def _row(found: dict, bench: dict, dataset: str) -> dict:
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
        **{key: None if unavailable else found.get(key, bench.get(key)) for key in COST},
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


def flat_metrics(table: list[dict]) -> dict:
    """{variant: {accuracy and size, device: {latency}}} with numbers alone, for `dvc metrics show` and `diff`."""
    out: dict = {}
    for row in table:
        if row["status"] == "unavailable":
            continue
        values = out.setdefault(row["variant"], _numbers(row, (*ACCURACY, *COST)))
        if row["status"] == "ok" and row["how"]["latency"] != "emulated":
            device = {f"{key}_ms": row["latency_ms"][key] for key in PERCENTILES} | _numbers(row, LOAD)
            energy = row["energy"]["value_mj"]
            values[row["device"]] = device if energy is None else {**device, "energy_mj": energy}
    return out


def _numbers(row: dict, keys) -> dict:
    return {key: row[key] for key in keys if isinstance(row[key], (int, float))}


def number(value, form: str = ".3f", scale: float = 1, unit: str = "") -> str:
    """E.g. "0.913" or "1.20 MB"; an en dash for None."""
    return NONE if value is None else f"{value / scale:{form}}{unit}"


def significant(value, unit: str = "") -> str:
    """Three significant digits without an exponent, e.g. "0.0123", "4.56", "1,230"."""
    if value is None:
        return NONE
    text = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{float(f'{value:.3g}'):,.0f}"
    return (f"{value:.6f}".rstrip("0") if "e" in text else text) + unit


def size(value) -> str:
    """Bytes as kB or MB of 1000."""
    if value is None:
        return NONE
    return significant(value / 1e6, " MB") if value >= 1e6 else significant(value / 1e3, " kB")


def count(value) -> str:
    """E.g. "1.2 M" or "340 k"."""
    if value is None:
        return NONE
    for limit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return significant(value / limit, letter)
    return str(value)


def kind(how: str) -> str:
    """The first words of how a figure came about: measured, estimated, predicted or not measured."""
    return how.partition(" (")[0]


def accuracy_cells(found: dict) -> list[str]:
    """A variant's line of the accuracy table."""
    figures = [number(found.get(key)) for key in ACCURACY]
    return [found["variant"], *figures, size(found.get("size_bytes")), count(found.get("params")), count(found["macs"])]


ACCURACY_HEAD = ("Variant", "AUROC", "AP", "F1", "Pixel AUROC", "AUPRO", "Size", "Params", "MACs")
DEVICE_HEAD = ("Variant", "Device", "p50 ms", "p90 ms", "p99 ms", "p50 ms by threads", "p50 ms with scoring")
DEVICE_HEAD += ("Load ms", "First ms", "Memory", "Energy")


def device_cells(row: dict) -> list[str]:
    """The figures of a row that ran, after variant and device."""
    threads = [
        f"{count}: {significant(found['p50'])}{' (more than cores)' if found.get('oversubscribed') else ''}"
        for count, found in sorted(row["latency_ms_threads"].items(), key=lambda pair: int(pair[0]))
    ]
    return [
        *(significant(row["latency_ms"][key]) for key in PERCENTILES),
        ", ".join(threads) or NONE,
        significant(row["predict_ms"]),
        significant(row["init_ms"]),
        significant((row["warmup_ms"] or {}).get("first")),
        significant(row["peak_rss_mb"], " MiB"),
        energy_text(row),
    ]


def energy_text(row: dict) -> str:
    """The energy of an inference with how it came about, e.g. "3.2 mJ, estimated"."""
    value = row["energy"]["value_mj"]
    return "not measured" if value is None else f"{significant(value, ' mJ')}, {kind(row['how']['energy'])}"


def markdown_table(head, lines) -> str:
    """A Markdown table, figures to the right."""
    rule = ["---" if name in TEXT_COLUMNS else "--:" for name in head]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in (head, rule, *lines))


def reasons(table: list[dict]) -> list[str]:
    """One line per reason why something was not measured or only estimated, with the rows it holds for."""
    out: dict[str, list[str]] = {}
    for row in table:
        if row["status"] == "ok" and kind(row["how"]["energy"]) != "measured":
            out.setdefault(f"Energy {row['how']['energy']}", []).append(f"{row['variant']} on {row['device']}")
    whole = sum(row["status"] == "ok" for row in table)
    return [line if len(names) == whole else f"{line}: {', '.join(names)}" for line, names in out.items()]


def compact_table(table: list[dict]) -> str:
    """The rows as one Markdown table of the figures that matter most, for README.md."""
    head = ("Variant", "Device", "AUROC", "AUPRO", "F1", "Size", "p50 ms", "p90 ms", "Memory", "Energy")
    lines = []
    for row in table:
        name = [row["variant"], row["device"] or NONE]
        figures = [number(row["image_auroc"]), number(row["aupro"]), number(row["f1"]), size(row["size_bytes"])]
        if row["status"] == "ok":
            p50, p90, *_, memory, energy = device_cells(row)
            lines.append([*name, *figures, p50, p90, memory, energy])
        elif row["status"] == "unavailable":
            lines.append([*name, f"unavailable: {row['reason']}", *[""] * 7])
        else:
            lines.append([*name, *figures, NONE, NONE, NONE, NONE])
    return markdown_table(head, lines)


def markdown(
    title: str, heading: str, evals: dict, table: list[dict], sections, pictures: list[tuple[str, str]]
) -> str:
    """report.md: both tables, why figures are missing, more `sections`, the plots (name, caption)."""
    lines = []
    for row in table:
        name = [row["variant"], row["device"]]
        if row["status"] == "ok":
            lines.append([*name, *device_cells(row)])
        elif row["device"]:
            lines.append([*name, f"{row['status']}: {row['reason']}", *[""] * (len(DEVICE_HEAD) - 3)])
    parts = [
        f"# {title}",
        heading,
        "## Accuracy and size",
        accuracy_note(evals),
        markdown_table(ACCURACY_HEAD, [accuracy_cells(found) for found in evals.values()]),
        "## On the device",
        latency_note(table) if lines else "Latency, memory and energy: not measured (no device in the plan).",
        markdown_table(DEVICE_HEAD, lines) if lines else "",
        "\n".join(f"- {line}" for line in reasons(table)),
        *sections,
        *(f"![{name}](plots/{name}.png)\n\n{caption}" for name, caption in pictures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def accuracy_note(evals: dict) -> str:
    """How the figures of the accuracy table came about."""
    others = [f" {name}: {found['how']}." for name, found in evals.items() if kind(found["how"]) != "measured"]
    return "Measured on the exported files, with the code that runs on the device." + "".join(others)


def latency_note(table: list[dict]) -> str:
    """How the figures of the device table came about."""
    kinds = sorted({row["how"]["latency"] for row in table if row["status"] == "ok"})
    if not kinds:
        return "No device could run a variant: latency, memory and energy are not measured."
    threads = sorted({row["threads"] for row in table if row["status"] == "ok"})
    on = "one thread" if threads == [1] else f"{' or '.join(map(str, threads))} threads"
    return f"Latency of one inference on {on} and peak memory of the process: {' or '.join(kinds)} on the device."

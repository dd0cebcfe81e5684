"""report.md, and index.html, which holds everything it shows: what their templates are filled with."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from stages.report import ablation, int8, tables
from stages.report.formatting import TEXT_COLUMNS, kind, markdown_list, markdown_table, significant

HEADINGS = {
    "ablation": ablation.TITLE,
    "accuracy_latency": "Accuracy against latency",
    "size": "Size",
    "per_defect": "Accuracy by defect type",
    "examples": "Examples",
    "clips": "Scores over time",
    "latency": "Latency",
    "energy": "Energy",
    "curves": "Training",
    "defects": "Synthetic defects",
}
WIDE = ("examples", "clips", "latency", "curves", "defects")
ORIGINS = (
    ("measured", "Accuracy: every test picture through the exported file, with the code that runs on the device."),
    ("measured", "Size: the bytes of the model file, of a compiled one where there is. Parameters and MACs: counted."),
    ("measured", "Latency: a clock around every inference after the warm-up; load and first inference separately."),
    ("measured", "Memory: the largest resident set of a process that does nothing but run the model."),
    ("estimated", "A figure from a model of the hardware, never in one series with measurements."),
    ("emulated", "Run on another kind of processor that imitates the device: the results hold, the times do not."),
    ("predicted", "A figure that a compiler foretells, never in one series with measurements."),
    ("not measured", "No figure; the reason stands with it."),
)


def render(template: str, context: dict) -> str:
    """The text of a file of stages/report/templates; whatever goes into HTML is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"kind": kind, "embedded": embedded}
    environment.globals |= {"table": markdown_table, "bullets": markdown_list, "text_columns": TEXT_COLUMNS}
    return environment.get_template(template).render(context)


def context(title: str, heading: str, evals: dict, results: list[dict], benches: dict, runs: list, figures, colors):
    """What both templates show; `figures` are (name, caption), `runs` those of the ablation."""
    return {
        "title": title,
        "heading": heading,
        "accuracy": {
            "note": tables.accuracy_note(evals),
            "head": tables.accuracy_head(evals),
            "rows": tables.accuracy_rows(evals),
        },
        "devices": {
            "note": tables.latency_note(results),
            "head": tables.DEVICE_HEAD,
            "rows": tables.device_rows(results),
            "energy": tables.energy_notes(results),
        },
        "ablation": {
            "title": ablation.TITLE,
            "head": ablation.head(runs),
            "rows": ablation.table_rows(runs) if runs else [],
            "notes": ablation.protocol(runs) if runs else [],
        },
        "int8": int8.notes(evals),
        "figures": [{"name": name, "caption": caption, "heading": HEADINGS[name]} for name, caption in figures],
        "wide": WIDE,
        "no_energy": no_energy(results),
        "origins": ORIGINS,
        "machines": machines(benches),
        "colors": {name: "rgb({}, {}, {})".format(*(round(255 * c) for c in rgb)) for name, rgb in colors.items()},
    }


def embedded(path: Path) -> str:
    """A PNG as the source of an <img>."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def no_energy(results: list[dict]) -> list[str]:
    """Why there is no energy at all; empty where there is a figure."""
    if any(result["energy"]["value_mj"] is not None for result in results):
        return []
    ran = {result["how"]["energy"] for result in results if result["status"] == "ok"}
    return sorted(ran) or ["not measured (no device ran)"]


def machines(benches: dict) -> dict[str, dict[str, str]]:
    """What every device said of itself while it measured, and the runtimes that ran there."""
    out = {}
    for device in dict.fromkeys(bench["device"] for bench in benches.values()):
        mine = [bench for bench in benches.values() if bench["device"] == device and bench["status"] == "ok"]
        facts = _facts([bench.get("machine") or {} for bench in mine])
        if runtimes := sorted({_runtime(bench.get("runtime") or {}) for bench in mine} - {""}):
            facts["model runtimes"] = "; ".join(runtimes)
        if facts:
            out[device] = facts
    return out


def _facts(machines: list[dict]) -> dict[str, str]:
    """The machine as the benchmarks saw it; a figure that changed between them as a range."""
    out = {}
    for key in dict.fromkeys(key for machine in machines for key in machine):
        values = [m[key] for m in machines if isinstance(m.get(key), (str, int, float))]
        if values:
            numeric = all(isinstance(value, (int, float)) for value in values)
            ends = sorted({min(values), max(values)}) if numeric else sorted(set(map(str, values)))
            texts = [significant(end) if isinstance(end, float) else str(end) for end in ends]
            out[_label(key)] = (" to " if numeric else ", ").join(texts)
    return out


def _label(key: str) -> str:
    for ending, unit in (("_mhz", " in MHz"), ("_mb", " in MiB"), ("_c", " in °C")):
        key = key.replace(ending, unit)
    return key.replace("_", " ")


def _runtime(runtime: dict) -> str:
    text = " ".join(str(runtime[key]) for key in ("name", "version") if runtime.get(key))
    return f"{text} ({runtime['delegate']})" if runtime.get("delegate") else text

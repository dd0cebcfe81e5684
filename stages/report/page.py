"""report.md, and index.html, which holds everything it shows: what their templates are filled with."""

import base64
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from stages.report import ablation, defects, int8, plots, supervised, tables, thresholds
from stages.report.formatting import TEXT_COLUMNS, kind, markdown_list, markdown_table, significant

HEADINGS = {  # of the figures, in the order of the page
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
    **supervised.HEADINGS,
    **defects.HEADINGS,
}
PICTURES = ("examples", "clips", "defects", *supervised.HEADINGS, "types_examples")  # no plots: they have no data
KINDS = {".png": "image/webp", ".jpg": "image/jpeg", ".svg": "image/svg+xml", ".csv": "text/csv"}
WIDEST = 1100  # pixels of a picture in the page, which shows none wider
QUALITY = 80  # of WebP
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
    environment.tests["picture"] = lambda name: name in PICTURES
    environment.globals |= {"table": markdown_table, "bullets": markdown_list, "text_columns": TEXT_COLUMNS}
    return environment.get_template(template).render(context)


def context(title: str, heading: str, evals: dict, results: list, benches: dict, runs: list, captions: dict) -> dict:
    """What both templates show but verdict and gallery; `captions` of the figures by name, `runs` of the ablation."""
    colors = plots.colors(evals)
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
        "thresholds": {
            "head": thresholds.HEAD,
            "rows": thresholds.rows(evals),
            "matrices": thresholds.matrices(evals),
            "notes": thresholds.notes(evals),
        },
        "ablation": {
            "title": ablation.TITLE,
            "head": ablation.head(runs),
            "rows": ablation.table_rows(runs) if runs else [],
            "notes": ablation.protocol(runs) if runs else [],
        },
        "int8": int8.notes(evals),
        "figures": [
            {"name": name, "caption": captions[name], "heading": heading}
            for name, heading in HEADINGS.items()
            if name in captions
        ],
        "no_energy": no_energy(results),
        "origins": ORIGINS,
        "machines": machines(benches),
        "colors": {name: "rgb({}, {}, {})".format(*(round(255 * c) for c in rgb)) for name, rgb in colors.items()},
    }


def embedded(path: Path) -> str:
    """A file as the address of an <img> or <a>; a PNG, which holds photographs, as WebP, a tenth of its size."""
    kind, content = KINDS[path.suffix], path.read_bytes()
    if path.suffix == ".png":
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None, path  # which this stage wrote itself
        height, width = image.shape[:2]
        if width > WIDEST:
            image = cv2.resize(image, (WIDEST, round(height * WIDEST / width)), interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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

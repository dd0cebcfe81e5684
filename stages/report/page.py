"""index.html: one page that holds everything it shows."""

import base64
from html import escape
from pathlib import Path

from stages.report import ablation, int8, summary

CSS = """
:root { --ink: #1f2630; --soft: #5a6270; --line: #e1e5eb; --accent: #1b6ca8; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 16px 64px; }
h1 { margin: 0 0 4px; font-size: 1.9rem; letter-spacing: -0.02em; }
h2 { margin: 0 0 4px; font-size: 1.15rem; }
p { margin: 4px 0 12px; color: var(--soft); }
section { background: #fff; border: 1px solid var(--line); border-radius: 12px; padding: 20px; margin: 20px 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 8px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 0.8rem; vertical-align: bottom; white-space: normal; }
th.text, td.text { text-align: left; }
.machine td { white-space: normal; }
tr:last-child td { border-bottom: 0; }
td.best { font-weight: 700; color: var(--accent); }
td.none { text-align: left; color: var(--soft); white-space: normal; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 8px; }
.how { display: inline-block; padding: 0 8px; border-radius: 99px; font-size: 0.75rem; line-height: 1.6;
  background: #eceff3; color: var(--soft); white-space: nowrap; }
.how.measured { background: #e1f0fa; color: #12557f; }
.how.estimated, .how.predicted, .how.emulated { background: #fdf0d9; color: #7a4a00; }
figure { margin: 12px 0 0; }
img { display: block; width: auto; max-width: max(min(100%, 760px), 560px); height: auto;
  margin: 0 auto; }
img.wide { max-width: max(100%, 560px); }
figcaption, li { color: var(--soft); font-size: 0.88rem; }
ul { margin: 8px 0 0; padding-left: 20px; }
@media (max-width: 600px) { section { padding: 14px; } h1 { font-size: 1.5rem; } main { padding: 20px 10px 40px; } }
"""

HEADINGS = {
    "ablation": ablation.TITLE,
    "accuracy_latency": "Accuracy against latency",
    "size": "Size",
    "per_defect": "Accuracy by defect type",
    "examples": "Examples",
    "latency": "Latency",
    "energy": "Energy",
    "curves": "Training",
    "defects": "Synthetic defects",
}

ORIGINS = (
    ("measured", "Accuracy: every test picture through the exported file, with the code that runs on the device."),
    ("measured", "Size: the bytes of the model file. Parameters and MACs are counted in it."),
    ("measured", "Latency: a clock around every inference after the warm-up; load and first inference separately."),
    ("measured", "Memory: the largest resident set of a process that does nothing but run the model."),
    ("estimated", "A figure from a model of the hardware, never in one series with measurements."),
    ("emulated", "Run on another kind of processor that imitates the device: the results hold, the times do not."),
    ("predicted", "A figure that a compiler foretells, never in one series with measurements."),
    ("not measured", "No figure; the reason stands with it."),
)


def badge(how: str) -> str:
    """A small mark that says how a figure came about."""
    kind = summary.kind(how)
    return f'<span class="how {escape(kind.replace(" ", "-"))}">{escape(kind)}</span>'


def render(
    title: str, heading: str, evals: dict, table: list[dict], benches: dict, runs, pictures, folder: Path, colors
):
    """The HTML text; `pictures` are (name, caption) of the PNGs in `folder`, `runs` those of the ablation."""
    above = {"ablation": _ablation(runs, colors)} if runs else {}
    figures = "".join(_figure(name, caption, folder, above.get(name, "")) for name, caption in pictures)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>{escape(heading)}</p>
<section>
<h2>Accuracy and size {badge("measured")}</h2>
<p>{escape(summary.accuracy_note(evals))} Best figures in bold.</p>
{_accuracy_table(evals, colors)}
</section>
<section>
<h2>On the device</h2>
<p>{escape(summary.latency_note(table))}</p>
{_device_table(table, colors)}
{_list([escape(line) for line in summary.reasons(table)])}
</section>
{_int8(evals)}
{figures}
{_no_energy(table)}
<section>
<h2>How each figure came about</h2>
{_list([f"{badge(how)} {escape(text)}" for how, text in ORIGINS])}
</section>
{_machines(benches)}
</main>
</body>
</html>
"""


def _figure(name: str, caption: str, folder: Path, above: str) -> str:
    data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
    wide = ' class="wide"' if name in ("examples", "latency", "curves", "defects") else ""
    return (
        f'<section>\n<h2>{HEADINGS[name]}</h2>\n{above}<figure><div class="scroll"><img{wide} alt="{escape(caption)}" '
        f'src="data:image/png;base64,{data}"></div>\n<figcaption>{escape(caption)}</figcaption></figure>\n</section>\n'
    )


def _table(head, lines: list[str]) -> str:
    cells = "".join(f"<th{_text(name)}>{escape(name)}</th>" for name in head)
    body = "\n".join(lines)
    return f'<div class="scroll"><table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _text(name: str) -> str:
    return ' class="text"' if name in summary.TEXT_COLUMNS else ""


def _name(variant: str, colors: dict) -> str:
    red, green, blue = (round(255 * c) for c in colors[variant])
    return (
        f'<td class="text"><span class="swatch" style="background: rgb({red}, {green}, {blue})"></span>'
        f"{escape(variant)}</td>"
    )


def _accuracy_table(evals: dict, colors: dict) -> str:
    best = {}
    for column, key in enumerate((*summary.ACCURACY, *summary.COST), 1):
        values = [found[key] for found in evals.values() if found.get(key) is not None]
        if len(set(values)) > 1:
            wanted = min(values) if key in summary.COST else max(values)
            best[column] = {name for name, found in evals.items() if found.get(key) == wanted}
    lines = []
    for name, found in evals.items():
        marks = [' class="best"' if name in best.get(i, ()) else "" for i in range(len(summary.ACCURACY_HEAD))]
        cells = [
            f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, summary.accuracy_cells(found), strict=True)
        ]
        cells = cells[1:]
        lines.append(f"<tr>{_name(name, colors)}{''.join(cells)}</tr>")
    return _table(summary.ACCURACY_HEAD, lines)


def _ablation(runs: list[dict], colors: dict) -> str:
    found = []
    for variant, step, *cells in ablation.lines(runs):
        figures = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        found.append(f'<tr>{_name(variant, colors)}<td class="text">{escape(step)}</td>{figures}</tr>')
    return _table(ablation.HEAD, found) + _list([escape(line) for line in ablation.protocol(runs)])


def _device_table(table: list[dict], colors: dict) -> str:
    lines = []
    for row in table:
        if row["device"] is None:
            continue
        start = f'<tr>{_name(row["variant"], colors)}<td class="text">{escape(row["device"])}</td>'
        if row["status"] == "ok":
            *cells, _ = [f"<td>{escape(cell)}</td>" for cell in summary.device_cells(row)]
            cells[0] = cells[0].replace("</td>", f" {badge(row['how']['latency'])}</td>")
            lines.append(f"{start}{''.join(cells)}<td>{_energy(row)}</td></tr>")
        else:
            span = len(summary.DEVICE_HEAD) - 2
            reason = f"{badge('not measured')} {escape(row['status'])}: {escape(str(row['reason']))}"
            lines.append(f'{start}<td class="none" colspan="{span}">{reason}</td></tr>')
    return _table(summary.DEVICE_HEAD, lines) if lines else ""


def _energy(row: dict) -> str:
    value = row["energy"]["value_mj"]
    mark = badge(row["how"]["energy"])
    return mark if value is None else f"{escape(summary.significant(value, ' mJ'))} {mark}"


def _no_energy(table: list[dict]) -> str:
    if any(row["energy"]["value_mj"] is not None for row in table):
        return ""
    why = sorted({row["how"]["energy"] for row in table if row["status"] == "ok"}) or ["not measured (no device ran)"]
    return f"<section>\n<h2>Energy {badge('not measured')}</h2>\n{_list([escape(line) for line in why])}\n</section>"


def _int8(evals: dict) -> str:
    lines = [f"{badge(how)} {escape(text)}" for how, text in int8.notes(evals)]
    return f"<section>\n<h2>Int8 files</h2>\n{_list(lines)}\n</section>" if lines else ""


def _list(lines: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>" if lines else ""


def _machines(benches: dict) -> str:
    out = []
    for device in dict.fromkeys(bench["device"] for bench in benches.values()):
        mine = [bench for bench in benches.values() if bench["device"] == device and bench["status"] == "ok"]
        facts = {f"{part}": value for part, value in _facts([bench.get("machine") or {} for bench in mine]).items()}
        runtimes = sorted({_runtime(bench.get("runtime") or {}) for bench in mine} - {""})
        if runtimes:
            facts["model runtimes"] = "; ".join(runtimes)
        if facts:
            lines = [
                f'<tr><td class="text">{escape(k)}</td><td class="text">{escape(v)}</td></tr>' for k, v in facts.items()
            ]
            rows = "\n".join(lines)
            out.append(
                f"<section>\n<h2>Device: {escape(device)}</h2>\n<p>As it described itself while it measured.</p>\n"
                f'<table class="machine"><tbody>\n{rows}\n</tbody></table>\n</section>'
            )
    return "\n".join(out)


def _facts(machines: list[dict]) -> dict[str, str]:
    """The machine as the benchmarks saw it; a figure that changed between them as a range."""
    out = {}
    for key in dict.fromkeys(key for machine in machines for key in machine):
        values = [m[key] for m in machines if isinstance(m.get(key), (str, int, float))]
        if values:
            alike = len(set(values)) == 1
            numeric = all(isinstance(v, (int, float)) for v in values)
            ends = [values[0]] if alike else [min(values), max(values)] if numeric else sorted(set(map(str, values)))
            texts = [
                v if isinstance(v, str) else summary.significant(v) if isinstance(v, float) else f"{v}" for v in ends
            ]
            out[key.replace("_mhz", " in MHz").replace("_mb", " in MiB").replace("_c", " in °C").replace("_", " ")] = (
                " to " if numeric else ", "
            ).join(texts)
    return out


def _runtime(runtime: dict) -> str:
    text = " ".join(str(runtime[key]) for key in ("name", "version") if runtime.get(key))
    return f"{text} ({runtime['delegate']})" if runtime.get("delegate") else text

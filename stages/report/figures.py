"""Which plots the report has, in which order and with which captions: each one that there is data for."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge.errors import UserError
from stages.report import charts, costs, plots, training
from stages.report.plots import Drawn
from stages.report.summary import main_block

DEFECTS = training.CURVES / "distill/defects.png"
DEFECTS_CAPTION = "Synthetic defects that the student was trained with; below, the outlines of their masks."


def draw(
    evals: dict,
    results: list[dict],
    benches: dict,
    runs: list[dict],
    baselines: Iterable[str],
    folder: Path,
    data: Path,
) -> dict[str, str]:
    """Draws the plots into `folder` as PNG and into `data` as SVG and CSV; {name: caption}. runs: of the ablation;
    baselines: their names."""
    plots.style()
    color = plots.colors(evals)
    captions = {}
    for name, caption, drawn in _drawn(evals, results, benches, runs, baselines, color):
        plots.write(drawn, folder / f"{name}.png", data)
        captions[name] = caption
    if not DEFECTS.exists():
        raise UserError(f"{DEFECTS}: not found; run dvc repro distill")
    shutil.copyfile(DEFECTS, folder / "defects.png")
    return captions | {"defects": DEFECTS_CAPTION}


def _drawn(
    evals: dict, results: list, benches: dict, runs: list, baselines: Iterable[str], color: dict
) -> Iterator[tuple[str, str, Drawn]]:
    """(name, caption, plot) of each."""
    ran = [result for result in results if result["status"] == "ok"]
    timed = [result for result in ran if result["how"]["latency"] != "emulated"]  # an emulator's time is no latency
    how = " or ".join(sorted({result["how"]["latency"] for result in timed}))
    if runs:
        seeds = f"a dot for each of {len(runs)} seeds, the bar is their mean" if len(runs) > 1 else "one seed"
        caption = f"Accuracy of the exported file after each step of compression (measured), {seeds}."
        yield "ablation", caption, charts.ablation(runs, color)
    if any(result["image_auroc"] is not None for result in timed):
        caption = f"Image AUROC (measured) against latency ({how}): p50, whisker to p90."
        yield "accuracy_latency", caption, charts.accuracy_latency(timed, color)
    caption = "Size of each model file (measured), parameters and multiply-accumulates counted in it."
    yield "size", caption, charts.size(evals, color)
    if any(found["per_defect"] for found in evals.values()):
        caption = "Image AUROC of each defect type against all good pictures (measured)."
        yield "per_defect", caption, charts.per_defect(evals, color)
    sampled = [b for b in benches.values() if b["status"] == "ok" and b.get("how") != "emulated"]
    sampled = [b for b in sampled if main_block(b).get("samples_ms")]
    if sampled:
        caption = f"All timed inferences up to p99 ({how}); line p50, dashes p90. Each panel has its own axis."
        yield "latency", caption, costs.latency(sampled, color)
    caption = "Energy of one inference; one panel for each way the figures came about, or why there are none."
    yield "energy", caption, costs.energy([result for result in results if result["device"]], color)
    if drawn := training.curves(training.CURVES, training.files(baselines)):
        yield "curves", "Training curves (measured while training).", drawn

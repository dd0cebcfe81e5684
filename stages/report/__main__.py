"""`python -m stages.report`: everything under reports/ from the results of evaluate and benchmark."""

from pathlib import Path

from stages.common import atomic, stage
from stages.report import (
    ablation,
    defects,
    dependencies,
    figures,
    illustrations,
    int8,
    page,
    plots,
    summary,
    supervised,
    thresholds,
    verdict,
)

OUT = Path("reports")
# the sources of which data.category is a part, and which (None: every one); of ucsd it may be found by itself
WITH_CATEGORY = dict.fromkeys(("mvtec", "visa", "btad", "dagm")) | {"ucsd": ("ped1", "ped2")}


def run(params) -> None:
    """Writes reports/summary.json, metrics.json, fidelity.json, ablation.json, plots/ (PNG), figures/ (SVG, CSV and the
    gallery), report.md and index.html. No data is read: `illustrate` has drawn what is shown of them."""
    variants = params.variants
    evals = {name: summary.read_json(f"artifacts/eval/{name}.json") for name in variants}
    benches = summary.read_benches(variants)
    dataset = named(params.data.source, params.data.category)
    results = summary.results(evals, benches, dataset)
    this = ablation.record(params, evals, results, benches)
    judged = len(this["steps"]) > 1 and all(step["image_auroc"] is not None for step in this["steps"].values())
    runs = ablation.alike(this) if judged else []
    best = verdict.verdicts(results, params.report.latency_budget_ms)
    shown = illustrations.read()
    with atomic.directory(OUT / "plots") as folder, atomic.directory(OUT / "figures") as data:
        captions = figures.draw(evals, results, benches, runs, params.baselines, folder, data)
        captions |= shown["captions"] | supervised.draw(variants, evals, folder) | defects.draw(folder, data)
        illustrations.copy(folder, data)
        plots.write_csv(data / "thresholds.csv", thresholds.DATA_HEAD, thresholds.data(evals))
        context = page.context(
            params.report.title,
            describe(dataset, params.input.frames, evals, benches),
            evals,
            results,
            benches,
            runs,
            captions,
        )
        context |= {
            "verdict": {"note": verdict.note(params.report.latency_budget_ms), "devices": best},
            "gallery": shown["gallery"],
            "supervised": supervised.section(evals),
            "types": defects.section(),
        }
        html = page.render("page.html.j2", context | {"plots": folder, "data": data})
    atomic.write_json(OUT / "summary.json", results)
    atomic.write_json(OUT / "metrics.json", summary.flat_metrics(results))
    atomic.write_json(OUT / "fidelity.json", int8.records(evals))
    atomic.write_json(OUT / "ablation.json", this)
    for name, content in (("report.md", page.render("report.md.j2", context)), ("index.html", html)):
        with atomic.file(OUT / name) as temporary:
            temporary.write_text(content)


def named(source: str, category: str) -> str:
    """What the dataset is called, with the category where there is more than one."""
    known = WITH_CATEGORY.get(source, ())
    return f"{source} {category}" if known is None or category in known else source


def describe(dataset: str, frames: int, evals: dict, benches: dict) -> str:
    """One sentence on what was tested, one on what was measured; frames: `input.frames`."""
    images = next(iter(evals.values()))["images"]
    devices = len({bench["device"] for bench in benches.values() if bench["status"] == "ok"})
    what = "pictures" if frames == 1 else f"clips of {frames} frames, which overlap"
    return (
        f"Dataset {dataset}: {images['good']} good and {images['defect']} defect test {what}. "
        f"{_many(len(evals), 'variant')}, measured on {_many(devices, 'device') if devices else 'no device'}."
    )


def _many(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def checked(params) -> None:
    """The stage: what DVC brought up to date has to be what the report reads."""
    dependencies.check(params.variants, params.baselines)
    run(params)


if __name__ == "__main__":
    stage.main("report", checked)

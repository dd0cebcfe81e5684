"""`python -m stages.report`: everything under reports/ from the results of evaluate and benchmark."""

from pathlib import Path

from stages.common import atomic, stage
from stages.report import ablation, clips, dependencies, examples, int8, page, plots, summary

OUT = Path("reports")


def run(params) -> None:
    """Writes reports/summary.json, metrics.json, fidelity.json, ablation.json, plots/, report.md and index.html."""
    variants = params.variants
    evals = {name: summary.read_json(f"artifacts/eval/{name}.json") for name in variants}
    benches = summary.read_benches(variants)
    dataset = f"mvtec {params.data.category}" if params.data.source == "mvtec" else params.data.source
    results = summary.results(evals, benches, dataset)
    this = ablation.record(params, evals, results, benches)
    runs = ablation.alike(this) if len(this["steps"]) > 1 else []
    colors = plots.colors(variants)
    with atomic.directory(OUT / "plots") as folder:
        figures = plots.draw(evals, results, benches, folder)
        caption = examples.draw(variants, evals, params.report.examples, folder / "examples.png", params.input.depth)
        names = [name for name, _ in figures]
        figures.insert(names.index("per_defect") + 1 if "per_defect" in names else 1, ("examples", caption))
        if over_time := clips.draw(variants, evals, folder / "clips.png", params.input.depth):
            figures.insert(1, ("clips", over_time))
        if runs:
            figures.insert(0, ("ablation", plots.ablation(runs, colors, folder / "ablation.png")))
        heading = describe(dataset, evals, benches)
        context = page.context(params.report.title, heading, evals, results, benches, runs, figures, colors)
        html = page.render("page.html.j2", context | {"folder": folder})
    atomic.write_json(OUT / "summary.json", results)
    atomic.write_json(OUT / "metrics.json", summary.flat_metrics(results))
    atomic.write_json(OUT / "fidelity.json", int8.records(evals))
    atomic.write_json(OUT / "ablation.json", this)
    for name, content in (("report.md", page.render("report.md.j2", context)), ("index.html", html)):
        with atomic.file(OUT / name) as temporary:
            temporary.write_text(content)


def describe(dataset: str, evals: dict, benches: dict) -> str:
    """One sentence on what was tested, one on what was measured."""
    images = next(iter(evals.values()))["images"]
    devices = len({bench["device"] for bench in benches.values() if bench["status"] == "ok"})
    return (
        f"Dataset {dataset}: {images['good']} good and {images['defect']} defect test pictures. "
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

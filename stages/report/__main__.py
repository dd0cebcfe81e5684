"""`python -m stages.report`: everything under reports/ from the results of evaluate and benchmark."""

from pathlib import Path

from stages.common import atomic, stage
from stages.report import ablation, examples, int8, page, plots, summary

OUT = Path("reports")


def run(params) -> None:
    """Writes reports/summary.json, metrics.json, fidelity.json, ablation.json, plots/, report.md and index.html."""
    variants = params.variants
    evals = {name: summary.read_json(f"artifacts/eval/{name}.json") for name in variants}
    benches = summary.read_benches(variants)
    dataset = f"mvtec {params.data.category}" if params.data.source == "mvtec" else params.data.source
    table = summary.rows(evals, benches, dataset)
    heading = describe(dataset, evals, benches)
    this = ablation.record(params, evals, table, benches)
    runs = ablation.alike(this) if len(this["steps"]) > 1 else []
    with atomic.directory(OUT / "plots") as folder:
        pictures = plots.draw(evals, table, benches, folder)
        caption = examples.draw(variants, evals, params.report.examples, folder / "examples.png")
        names = [name for name, _ in pictures]
        pictures.insert(names.index("per_defect") + 1 if "per_defect" in names else 1, ("examples", caption))
        if runs:
            pictures.insert(0, ("ablation", plots.ablation(runs, plots.colors(variants), folder / "ablation.png")))
        html = page.render(
            params.report.title, heading, evals, table, benches, runs, pictures, folder, plots.colors(variants)
        )
    atomic.write_json(OUT / "summary.json", table)
    atomic.write_json(OUT / "metrics.json", summary.flat_metrics(table))
    atomic.write_json(OUT / "fidelity.json", int8.records(evals))
    atomic.write_json(OUT / "ablation.json", this)
    sections = [f"## {ablation.TITLE}\n\n{ablation.markdown(runs)}" if runs else "", int8.markdown(evals)]
    text = summary.markdown(params.report.title, heading, evals, table, sections, pictures)
    for name, content in (("report.md", text), ("index.html", html)):
        with atomic.file(OUT / name) as temporary:
            temporary.write_text(content)


def describe(dataset: str, evals: dict, benches: dict) -> str:
    """One line on what was tested."""
    images = next(iter(evals.values()))["images"]
    devices = len({bench["device"] for bench in benches.values() if bench["status"] == "ok"})
    return (
        f"Dataset {dataset}: {images['good']} good and {images['defect']} defect test pictures. "
        f"{_many(len(evals), 'variant')}, measured on {_many(devices, 'device') if devices else 'no device'}."
    )


def _many(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


if __name__ == "__main__":
    stage.main("report", run)

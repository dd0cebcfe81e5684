"""`python -m stages.illustrate`: draws what the report shows of the test pictures into artifacts/illustrations."""

from pathlib import Path

from stages.common import atomic, stage
from stages.illustrate import clips, examples, gallery
from stages.report import dependencies, summary, verdict

OUT = Path("artifacts/illustrations")


def run(params) -> None:
    """Writes examples.png, clips.png (of clips), gallery/, gallery.csv, and shown.json, which says what they show."""
    variants, count, depth = params.variants, params.report.examples, params.input.depth
    evals = {name: summary.read_json(f"artifacts/eval/{name}.json") for name in variants}
    results = summary.results(evals, summary.read_benches(variants), dataset="")  # a verdict names none
    best = verdict.verdicts(results, params.report.latency_budget_ms)
    shown = next((one["variant"] for one in best if one["variant"]), examples.compared(variants, evals)[-1])
    with atomic.directory(OUT) as folder:
        captions = {"examples": examples.draw(variants, evals, count, folder / "examples.png", depth)}
        if over_time := clips.draw(variants, evals, folder / "clips.png", depth):
            captions["clips"] = over_time
        tiles = gallery.draw(shown, evals[shown]["threshold"], count, folder, depth)
        atomic.write_json(folder / "shown.json", {"captions": captions, "gallery": gallery.record(shown, tiles)})


def checked(params) -> None:
    """The stage: what DVC brought up to date has to be what it reads."""
    dependencies.check(params.variants)
    run(params)


if __name__ == "__main__":
    stage.main("illustrate", checked)

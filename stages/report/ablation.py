"""What each step of compression costs, over all runs that differ in their seed alone."""

from pathlib import Path
from statistics import mean, stdev

from stages.report import summary

PUBLISHED = Path("reports/published")
TITLE = "What each step of compression costs"
STEPS = {  # step: (model, precision) of its TFLite variant
    "float": ("student", "float32"),
    "PTQ": ("student", "int8"),
    "QAT": ("qat", "int8"),
    "pruned": ("pruned", "float32"),
    "pruned + QAT": ("pruned-qat", "int8"),
}
FIGURES = ("image_auroc", "aupro", "size_bytes", "params", "macs")
HEAD = ("Variant", "Step", "AUROC", "AUPRO", "Size", "Params", "MACs", "p50 ms")


def settings(params) -> dict:
    """What two runs must share to be compared; networks by their name, wherever they were loaded from."""
    data = params.data
    found = {"data": {key: getattr(data, key) for key in ("source", "category", "val_fraction", "seed")}}
    found["data"]["group_near_duplicates"] = data.group_near_duplicates
    if data.source == "synthetic":
        found["data"]["synthetic"] = data.synthetic.model_dump()
    for section in ("input", "teacher", "student", "distill", "compress"):
        found[section] = getattr(params, section).model_dump()
    for section, key in (("teacher", "backbone"), ("student", "init")):
        found[section][key] = Path(found[section][key]).name.replace("_", "-")
    found["calibration_images"] = params.compile.calibration_images
    return found


def record(params, evals: dict, table: list[dict]) -> dict:
    """This run: seed, settings, and the figures of every step that it has a variant of."""
    steps = {}
    for step, wanted in STEPS.items():
        for name, variant in params.variants.items():
            if (variant.model, variant.precision) == wanted and variant.format == "tflite":
                timed = [r for r in table if r["variant"] == name and r["how"]["latency"] == "measured"]
                found = {key: evals[name].get(key) for key in FIGURES}
                latency = {"p50_ms": timed[0]["latency_ms"]["p50"] if timed else None}
                steps[step] = {"variant": name, **found, **latency}
    return {"seed": params.seed, "settings": settings(params), "steps": steps}


def alike(this: dict, folder: Path = PUBLISHED) -> list[dict]:
    """This run and the published ones with its settings and other seeds."""
    found = [this]
    for path in sorted(folder.glob("*/seeds/*.json")):
        one = summary.read_json(path)
        whole = this["steps"].keys() <= one["steps"].keys()
        if whole and one["settings"] == this["settings"] and one["seed"] not in [run["seed"] for run in found]:
            found.append(one)
    return found


def ordered(run: dict) -> list[str]:
    """The steps of a run in the order of compression; a file has them in that of the alphabet."""
    return [step for step in STEPS if step in run["steps"]]


def lines(runs: list[dict]) -> list[list[str]]:
    """A line of the table for each step; latency is of the first run."""
    out = []
    for step in ordered(runs[0]):
        mine = [run["steps"][step] for run in runs]
        accuracy = [spread([one[key] for one in mine]) for key in ("image_auroc", "aupro")]
        costs = [mean(one[key] for one in mine) for key in ("size_bytes", "params", "macs")]
        cells = [summary.size(costs[0]), summary.count(costs[1]), summary.count(costs[2])]
        out.append([mine[0]["variant"], step, *accuracy, *cells, summary.significant(mine[0]["p50_ms"])])
    return out


def spread(values: list) -> str:
    """Mean and standard deviation over the seeds."""
    if any(value is None for value in values):
        return summary.NONE
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def protocol(runs: list[dict]) -> list[str]:
    """How the figures were made, in two lines."""
    found, p = runs[0]["settings"], runs[0]["settings"]["compress"]
    seeds = sorted(run["seed"] for run in runs)
    many = f"{len(seeds)} seeds ({', '.join(map(str, seeds))}), mean ± standard deviation" if seeds[1:] else "One seed"
    return [
        f"{many}: each trains teacher and student anew on the same split. Accuracy measured on the exported files, "
        f"parameters and MACs counted in them, latency measured in the run of seed {runs[0]['seed']}.",
        f"PTQ: ranges of {found['calibration_images']} good training pictures. QAT: {p['qat_epochs']} epochs. Pruned: "
        f"{p['prune_ratio']:.0%} of the MACs removed, {p['finetune_epochs']} epochs of fine-tuning.",
    ]


def markdown(runs: list[dict]) -> str:
    """The table and how it came about, for report.md and README.md."""
    notes = "\n".join(f"- {line}" for line in protocol(runs))
    return f"{summary.markdown_table(HEAD, lines(runs))}\n\n{notes}"

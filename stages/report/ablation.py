"""What each step of compression costs, over all runs that differ in their seed alone."""

from pathlib import Path
from statistics import mean, stdev

from stages.common.dataset import sha256
from stages.report import summary

PUBLISHED = Path("reports/published")
TEST_INDEX = Path("data/test/index.csv")
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
    """What two runs must share to be compared: the test pictures and every setting that accuracy depends on.

    Networks count by their name, wherever they were loaded from.
    """
    sections = ("input", "teacher", "student", "distill", "compress", "compile", "evaluate")
    found = {section: getattr(params, section).model_dump() for section in sections}
    for section, key in (("teacher", "backbone"), ("student", "init")):
        found[section][key] = Path(found[section][key]).name.replace("_", "-")
    for key in ("fidelity", "edgetpu_compiler", "threshold_quantile"):  # decide no AUROC
        del found["compile"][key]
    found["data"] = {"source": params.data.source, "seed": params.data.seed, "val_fraction": params.data.val_fraction}
    if params.data.source == "synthetic":
        found["data"]["synthetic"] = params.data.synthetic.model_dump()
    return found | {"test_index_sha256": sha256(TEST_INDEX)}


def record(params, evals: dict, table: list[dict], benches: dict) -> dict:
    """This run: seed, settings, the teacher, every step that it has a variant of; latency of one device, and what CPU
    that has."""
    names = {}
    for step, wanted in STEPS.items():
        if step.startswith("pruned") and not params.compress.prune_ratio:
            continue
        for name, variant in params.variants.items():
            if (variant.model, variant.precision) == wanted and variant.format == "tflite":
                names[step] = name
    timed = {
        (row["device"], row["variant"]): row["latency_ms"]["p50"]
        for row in table
        if row["status"] == "ok" and row["how"]["latency"] == "measured"
    }
    devices = dict.fromkeys(device for device, _ in timed)
    device = next((d for d in devices if all((d, name) in timed for name in names.values())), None)
    steps = {
        step: {
            "variant": name,
            **{key: evals[name].get(key) for key in FIGURES},
            "val_auroc": (evals[name].get("validation") or {}).get("auroc"),
            "p50_ms": timed.get((device, name)),
        }
        for step, name in names.items()
    }
    teacher = next((evals[name] for name, variant in params.variants.items() if variant.model == "teacher"), {})
    machine = next((b.get("machine") or {} for b in benches.values() if device and b["device"] == device), {})
    found = {"seed": params.seed, "settings": settings(params), "device": device, "steps": steps}
    found["machine"] = {key: machine.get(key) for key in ("cpu", "int8")}
    return found | {"teacher": {key: teacher.get(key) for key in ("image_auroc", "aupro")}}


def alike(this: dict, folder: Path = PUBLISHED) -> list[dict]:
    """This run and the published ones with its settings and other seeds, marked as such."""
    found = [this]
    for path in sorted(folder.glob("*/seeds/*.json")):
        one = summary.read_json(path)
        whole = this["steps"].keys() <= one["steps"].keys()
        if whole and one["settings"] == this["settings"] and one["seed"] not in [run["seed"] for run in found]:
            found.append(one | {"published": path.parent.parent.name})
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
    """Mean and sample standard deviation over the seeds."""
    if any(value is None for value in values):
        return summary.NONE
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def protocol(runs: list[dict]) -> list[str]:
    """How the figures were made, in two lines."""
    found, steps = runs[0]["settings"], runs[0]["steps"]
    how = "One seed."
    if len(runs) > 1:
        how = f"Seeds {', '.join(str(run['seed']) for run in runs)}: mean ± standard deviation over runs that train "
        how += "teacher and student anew on the same split."
        if others := sorted({run["published"] for run in runs if run.get("published")}):
            how += f" All seeds but {runs[0]['seed']} are published results (reports/published/{', '.join(others)})."
    how += " Accuracy measured on the exported files, parameters and MACs counted in them"
    if runs[0]["device"]:
        seed = f" in the run of seed {runs[0]['seed']}" if len(runs) > 1 else ""
        how += f"; latency on one thread measured on {runs[0]['device']}{seed}"
    made = {
        "PTQ": f"PTQ: ranges of {found['compile']['calibration_images']} training pictures, half with pasted defects.",
        "QAT": f"QAT: {found['compress']['qat_epochs']} epochs.",
    }
    if "pruned" in steps and "float" in steps:
        gone = 1 - mean(r["steps"]["pruned"]["macs"] for r in runs) / mean(r["steps"]["float"]["macs"] for r in runs)
        made["pruned"] = f"Pruned: {gone:.0%} of the MACs removed, {found['compress']['finetune_epochs']} epochs after."
    return [f"{how}.", " ".join(text for step, text in made.items() if step in steps)]


def markdown(runs: list[dict]) -> str:
    """The table and how it came about, for report.md and README.md."""
    notes = "\n".join(f"- {line}" for line in protocol(runs))
    return f"{summary.markdown_table(HEAD, lines(runs))}\n\n{notes}"

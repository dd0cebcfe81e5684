"""What each step of compression costs, over all runs that differ in their seed alone."""

from pathlib import Path
from statistics import mean

from edge.errors import UserError
from stages.common.schema import Schema, Section
from stages.report import resolution
from stages.report.formatting import base_names, code, count, mean_and_deviation, significant, size
from stages.report.summary import read_json

PUBLISHED = Path("reports/published")
TITLE = "What each step of compression costs"
START = "start"  # the step that stands before all others
FIGURES = ("image_auroc", "aupro", "size_bytes", "params", "macs")
HEAD = ("Variant", "Step", "AUROC", "AUPRO", "Size", "Params", "MACs", "p50 ms")


def settings(params, evals: dict) -> dict:
    """What two runs must share to be compared: the test pictures that `evals` are of, and every setting that accuracy
    depends on.

    Networks count by their name, wherever they were loaded from. A key at its default in the schema is left out, so
    that a record made before there was such a key is comparable.
    """
    sections = ("input", "teacher", "student", "distill", "compress", "compile", "evaluate")
    found = {section: getattr(params, section).model_dump(exclude_defaults=True) for section in sections}
    for section, key in (("teacher", "backbone"), ("student", "init")):
        named = found[section][key]
        names = [name.replace("_", "-") for name in base_names(named)]
        found[section][key] = names if isinstance(named, list) else names[0]
    for key in ("fidelity", "edgetpu_compiler", "false_alarm_rate", "threshold", "embedding"):  # decide no AUROC
        found["compile"].pop(key, None)
    data = params.data.model_dump(exclude_defaults=True)
    of_source = ("synthetic",) if params.data.source == "synthetic" else ()
    found["data"] = {key: data[key] for key in ("source", "seed", "val_fraction", "group", *of_source) if key in data}
    return found | {"test_index_sha256": test_index(evals)}


def test_index(evals: dict) -> str:
    """The sha256 of the index of the test pictures that all variants were judged on; UserError for several."""
    judged_on: dict[str, str] = {}
    for name, found in evals.items():
        judged_on.setdefault(found.get("test_index_sha256", ""), name)
    if len(judged_on) != 1 or "" in judged_on:
        names = " and ".join(judged_on.values())
        raise UserError(f"artifacts/eval: {names} were judged on other test pictures; run dvc repro")
    return next(iter(judged_on))


def defaults() -> dict[str, dict]:
    """{section: {key: value}}: what a key means where params.yaml or a record doesn't have it."""
    sections = {name: field.annotation for name, field in Schema.model_fields.items()}
    return {
        name: {
            key: _plain(field.get_default()) for key, field in section.model_fields.items() if not field.is_required()
        }
        for name, section in sections.items()
        if isinstance(section, type) and issubclass(section, Section)
    }


def _plain(value):
    """A default as params.yaml says it."""
    return value.model_dump() if isinstance(value, Section) else value


def read_record(path: str | Path) -> dict:
    """A record from a file; its settings have no key at its default, whichever code wrote it."""
    record, known = read_json(path), defaults()
    for name, section in record["settings"].items():
        if isinstance(section, dict):
            for key in [key for key, value in known.get(name, {}).items() if key in section and section[key] == value]:
                del section[key]
    return record


def variants_by_step(variants: dict, evals: dict) -> dict[str, str]:
    """{step: variant} in the order of params.yaml.

    A variant whose evaluation equals an earlier one's in every figure is the same network (nothing was pruned): its
    step was not taken. The start is no step: a student that stays what it starts as is shown beside it.
    """
    found, seen = {}, []
    for name, variant in variants.items():
        figures = {key: value for key, value in evals[name].items() if key != "variant"}
        if variant.step and figures not in seen:
            found[variant.step] = name
            seen += [figures] if variant.step != START else []
    return found


def record(params, evals: dict, results: list[dict], benches: dict) -> dict:
    """This run: seed, settings, teacher and every step that it has a variant of; latency of one device that ran them
    all, and what CPU that has."""
    names = variants_by_step(params.variants, evals)
    timed = {
        (result["device"], result["variant"]): result["latency_ms"]["p50"]
        for result in results
        if result["status"] == "ok" and result["how"]["latency"] == "measured"
    }
    devices = dict.fromkeys(device for device, _ in timed)
    device = next((d for d in devices if all((d, name) in timed for name in names.values())), None)
    validated = {name: evals[name].get("validation") or {} for name in names.values()}
    steps = {
        step: {
            "variant": name,
            **{key: evals[name].get(key) for key in FIGURES},
            "pixel_resolution": resolution.of(evals[name]),
            "val_auroc": validated[name].get("auroc"),
            "val_defects": "families" if "defects" in validated[name] else None,
            "p50_ms": timed.get((device, name)),
        }
        for step, name in names.items()
    }
    teacher: dict = next((evals[name] for name, variant in params.variants.items() if variant.role == "teacher"), {})
    machine = next((b.get("machine") or {} for b in benches.values() if device and b["device"] == device), {})
    return {
        "seed": params.seed,
        "settings": settings(params, evals),
        "device": device,
        "machine": {key: machine.get(key) for key in ("cpu", "int8")},
        "teacher": {key: teacher.get(key) for key in ("image_auroc", "aupro", "pixel_resolution")},
        "order": list(steps),
        "steps": steps,
    }


def alike(this: dict, folder: Path = PUBLISHED) -> list[dict]:
    """This run and the published ones with its settings and other seeds, marked as such."""
    found = [this]
    for path in sorted(folder.glob("*/seeds/*.json")):
        other = read_record(path)
        whole = this["steps"].keys() <= other["steps"].keys()
        if whole and other["settings"] == this["settings"] and other["seed"] not in [run["seed"] for run in found]:
            found.append(other | {"published": path.parent.parent.name})
    return found


def ordered(run: dict) -> list[str]:
    """The steps of a run in the order of its params.yaml, which older records don't have."""
    return run.get("order") or list(run["steps"])


def _steps(runs: list[dict]) -> list[dict]:
    return [step for run in runs for step in run["steps"].values()]


def head(runs: list[dict]) -> tuple[str, ...]:
    """The names of the columns. Runs with equal settings, as all of a table are, share the resolution of the AUPRO."""
    return resolution.head(HEAD, _steps(runs))


def table_rows(runs: list[dict]) -> list[list[str]]:
    """A row for each step; latency is of the first run."""
    out = []
    for step in ordered(runs[0]):
        mine = [run["steps"][step] for run in runs]
        accuracy = [mean_and_deviation([one[key] for one in mine]) for key in ("image_auroc", "aupro")]
        bytes_, weights, macs = (mean(one[key] for one in mine) for key in ("size_bytes", "params", "macs"))
        cells = [size(bytes_), count(weights), count(macs), significant(mine[0]["p50_ms"])]
        out.append([mine[0]["variant"], step, *accuracy, *cells])
    return out


def protocol(runs: list[dict]) -> list[str]:
    """How the figures were made: the seeds, and the steps."""
    how = "One seed."
    if len(runs) > 1:
        how = f"Seeds {', '.join(str(run['seed']) for run in runs)}: mean ± standard deviation over runs that train "
        how += "teacher and student anew on the same split."
        if others := [run for run in runs if run.get("published")]:
            where, made = (sorted(set(found)) for found in ([run["published"] for run in others], map(code, others)))
            how += f" All seeds but {runs[0]['seed']} are published results "
            how += f"(reports/published/{', '.join(where)}; {', '.join(made)})."
    how += " Accuracy measured on the exported files, parameters and MACs counted in them"
    if runs[0]["device"]:
        seed = f" in the run of seed {runs[0]['seed']}" if len(runs) > 1 else ""
        how += f"; latency on one thread measured on {runs[0]['device']}{seed}"
    notes = [f"{how}.", *resolution.note(_steps(runs)), " ".join(step_notes(runs))]
    return [note for note in notes if note]


def step_notes(runs: list[dict]) -> list[str]:
    """What was done in the steps whose names are known."""
    found, steps = runs[0]["settings"], runs[0]["steps"]
    out = []
    if START in steps:
        out.append("Start: what the student starts as, untrained, in int8.")
    if "PTQ" in steps:
        pictures = found["compile"]["calibration_images"]
        out.append(f"PTQ: ranges of {pictures} training pictures, half with pasted defects.")
    if "QAT" in steps:
        out.append(f"QAT: {found['compress']['qat_epochs']} epochs.")
    if "int8" in steps:
        epochs = found["compress"]["qat_epochs"]
        how = f"{epochs} epochs with fake quantization" if epochs else "ranges calibrated, biases corrected"
        out.append(f"Int8: {how}.")
    if "pruned" in steps and "float" in steps:
        left, whole = (mean(run["steps"][step]["macs"] for run in runs) for step in ("pruned", "float"))
        epochs = found["compress"]["finetune_epochs"]
        out.append(f"Pruned: {1 - left / whole:.0%} of the MACs removed, {epochs} epochs after.")
    return out

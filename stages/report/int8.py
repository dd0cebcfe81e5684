"""Int8 files: how nearly each equals the simulated integer network, and what an Edge TPU takes of it."""

from stages.report.formatting import size


def records(evals: dict) -> dict:
    """The fidelity record of every int8 variant, for reports/fidelity.json."""
    return {name: found["fidelity"] for name, found in evals.items() if found.get("fidelity")}


def notes(evals: dict) -> list[tuple[str, str]]:
    """(how it came about, text) of each thing to say."""
    out = [("measured", fidelity(name, record)) for name, record in records(evals).items()]
    for name, found in evals.items():
        if found.get("edgetpu"):
            out.append((found["edgetpu"]["how"].replace("compiled", "measured"), edgetpu(name, found["edgetpu"])))
    return out


def fidelity(name: str, record: dict) -> str:
    """E.g. "student-int8 (ai_edge_litert XNNPACK): 100.00 % of the outputs equal the simulated network's, ..."."""
    text = (
        f"{name} ({record['kernel']}): {record['exact']:.2%} of the outputs equal the simulated network's, "
        f"{record['within_1']:.2%} within one step, largest difference {record['max_lsb']} "
        f"({record['images']} pictures)"
    )
    if other := record.get("reference_kernels"):
        seen = f" on {other['images']} of them" if "images" in other else ""
        text += (
            f"; TFLite's reference kernels against these: {other['exact']:.2%} equal, {other['within_1']:.2%} within "
            f"one step, largest {other['max_lsb']}{seen} (its cost in AUROC: python -m experiments kernels {name})"
        )
    return text + "."


def edgetpu(name: str, record: dict) -> str:
    """What runs on the Edge TPU and why the rest does not."""
    text = (
        f"{name}: {record['mapped']} of {record['ops']} operators on the Edge TPU, "
        f"{size(record['parameter_bytes'])} of parameters"
    )
    if record["how"] == "compiled":
        text += f" ({record['compiler']}; {size(record['streamed_bytes'])} of them streamed)"
    left = "; ".join(f"{op['op']}: {op['why']}" for op in record["cpu"])
    what = "accuracy is" if record["how"] == "compiled" else "accuracy and size are"
    return f"{text}. {'On the CPU: ' + left + '. ' if left else ''}Its {what} that of the int8 file on the CPU."

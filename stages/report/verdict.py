"""The verdict: the variant to take on each device within the latency budget."""

from stages.report.formatting import kind, score, significant, size

TIE = 0.005  # of image AUROC, a choice: some hundred test pictures tell nothing finer apart


def verdicts(results: list[dict], budget: float | None) -> list[dict]:
    """{device, variant, text} of each device in the order of the plan; variant None where none can be named.

    Of the variants whose p99 keeps within `budget` ms (None: any), the fastest by p50 of those within TIE of the
    highest image AUROC. An emulated time is no latency.
    """
    devices = dict.fromkeys(result["device"] for result in results if result["device"])
    return [_verdict(name, [r for r in results if r["device"] == name], budget) for name in devices]


def _verdict(device: str, mine: list[dict], budget: float | None) -> dict:
    def none(text: str) -> dict:
        return {"device": device, "variant": None, "text": text}

    timed = [result for result in mine if result["status"] == "ok" and result["how"]["latency"] != "emulated"]
    if not timed:
        return none(f"no latency ({'; '.join(sorted({result['how']['latency'] for result in mine}))}), so no verdict")
    within = [result for result in timed if budget is None or result["latency_ms"]["p99"] <= budget]
    if not within:
        near = min(timed, key=lambda result: result["latency_ms"]["p99"])
        p99 = significant(near["latency_ms"]["p99"])
        return none(f"no variant keeps within {budget:g} ms; the nearest is {near['variant']} (p99 {p99} ms)")
    known = [result for result in within if result["image_auroc"] is not None]
    if not known:
        return none("no image AUROC, since the test pictures are all good or all defects, so no verdict")
    least = max(result["image_auroc"] for result in known) - TIE
    best = min((r for r in known if r["image_auroc"] >= least), key=lambda result: result["latency_ms"]["p50"])
    return {"device": device, "variant": best["variant"], "text": _figures(best)}


def _figures(best: dict) -> str:
    """E.g. "AUROC 0.991, p50 1.20 ms, p99 1.32 ms, 679 kB"."""
    how = kind(best["how"]["accuracy"])
    parts = [f"AUROC {score(best['image_auroc'])}" + ("" if how == "measured" else f" ({how})")]
    parts += [f"AUPRO {score(best['aupro'])}"] if best["aupro"] is not None else []
    parts += [f"{key} {significant(best['latency_ms'][key])} ms" for key in ("p50", "p99")]
    return ", ".join([*parts, size(best["size_bytes"])])


def note(budget: float | None) -> str:
    """How the verdict came about."""
    limit = "" if budget is None else f" with 99 of 100 inferences within {budget:g} ms"
    return (
        f"Best variant on each device{limit}: the fastest of those within {TIE} of the highest AUROC on the test "
        "pictures."
    )

"""The comment on a pull request: what ran, and what changed in settings, verdict, accuracy, size and latency."""

from stages.report import resolution
from stages.report.formatting import NONE, markdown_list, markdown_table, score, significant, size
from stages.report.verdict import note, verdicts

ACCURACY = {"AUROC": "image_auroc", "AUPRO": "aupro", "F1": "f1"}
LATENCY = ("p50", "p99")
SMALLEST = {"score": 0.0005, "size": 1, "latency": 0}  # differences below what the figure shows are none
KINDS = {"ran": "Ran", "restored": "From the run cache", "unchanged": "Unchanged"}
SHOWN = 60  # characters of a setting; a choice


def page(about: dict, stages: dict, now: dict, then: dict, budget: float | None, plots: dict[str, str | None]) -> str:
    """The Markdown. `plots`: each plot by its file name, with the place of the base's where that one differs."""
    parts = [
        f"# {_text(about['title'])}",
        f"Commit {about['head'][:7]} compared with {about['base'][:7]}. [The report]({about['link']})",
        markdown_list(_verdicts(now, then, budget)),
        note(budget),
        "## What ran",
        markdown_list(
            f"{KINDS[kind]} ({len(names)}): {', '.join(names) or 'nothing'}" for kind, names in stages.items()
        ),
        "## Settings",
        _settings(now["params"], then["params"]),
        "## Accuracy, size and latency",
        *_figures(now, then),
        "## Plots",
        *_plots(plots),
    ]
    return "\n\n".join(parts) + "\n"


def _verdicts(now: dict, then: dict, budget: float | None):
    before = {v["device"]: v["variant"] for v in verdicts(list((then["results"] or {}).values()), budget)}
    for found in verdicts(list(now["results"].values()), budget):
        device, variant = found["device"], found["variant"]
        text = f"{device}: **{variant}**, {found['text']}" if variant else f"{device}: {found['text']}"
        if device in before and before[device] != variant:
            text += f" (before: {before[device] or 'none'})"
        yield text


def _settings(now: dict, then: dict) -> str:
    keys = [key for key in {**then, **now} if now.get(key, NONE) != then.get(key, NONE)]
    if not keys:
        return "No setting changed."
    rows = [[f"`{key}`", _text(then.get(key, NONE)), _text(now.get(key, NONE))] for key in keys]
    return markdown_table(["Setting", "Before", "Now"], rows)


def _figures(now: dict, then: dict):
    """The table of every variant and device, each figure with its change, and notes."""
    before, found = then["results"], list(now["results"].values())
    rows, notes = [], []
    for key, result in now["results"].items():
        old = (before or {}).get(key)
        rows.append([_text(key[0]), _text(key[1] or NONE), *_row(result, old, _same_machine(key, now, then), found)])
        if result["status"] != "ok":
            notes.append(f"{key[0]} on {key[1]}: {_text(result['how']['latency'])}")
        elif old and not _same_machine(key, now, then):
            notes.append(
                f"{key[0]} on {key[1]}: measured on {_text(now['machines'].get(key))}, before on "
                f"{_text(then['machines'].get(key) or 'an unknown machine')}; these latencies can't be compared"
            )
    notes += [
        f"{variant} on {device}: no longer there"
        for variant, device in (before or {})
        if (variant, device) not in now["results"]
    ]
    if before is None:
        notes.append("The base has no results in its dvc.lock or in the remote: nothing to compare with.")
    both = (now["results"].keys() & before.keys()) if before else ()
    if not all(_same_pixels(now["results"][key], before[key]) for key in both):
        notes.append("AUPRO was at another resolution before, which can't be compared.")
    head = ["Variant", "Device", *ACCURACY, "Size", *(f"{key} ms" for key in LATENCY)]
    yield markdown_table(resolution.head(head, found), rows)
    changed = any(sign in cell for row in rows for cell in row[2:] for sign in ("(+", "(−"))  # noqa: RUF001
    if before is not None and not changed and not notes:
        notes.append("No figure changed.")
    notes += resolution.note(found)
    if notes:
        yield markdown_list(notes)


def _row(result: dict, old: dict | None, comparable: bool, all_results: list[dict]):
    for key in ACCURACY.values():
        pixels = key in resolution.KEYS and result[key] is not None
        before = old[key] if old and (not pixels or _same_pixels(result, old)) else None
        mark = resolution.mark(result, all_results) if pixels else ""
        yield _cell(result[key], before, score, SMALLEST["score"]) + mark
    yield _cell(result["size_bytes"], old and old["size_bytes"], size, SMALLEST["size"])
    for key in LATENCY:
        values = [(r or {}).get("latency_ms") or {} for r in (result, old if comparable else None)]
        yield _cell(values[0].get(key), values[1].get(key), significant, SMALLEST["latency"])


def _cell(value, old, form, smallest: float) -> str:
    """E.g. "0.952 (+0.002)"."""
    if value is None or old is None or value == old or abs(value - old) < smallest:
        return form(value)
    return f"{form(value)} ({'+' if value > old else '−'}{form(abs(value - old))})"  # noqa: RUF001


def _same_pixels(result: dict, old: dict) -> bool:
    """Whether their AUPRO can be compared: at one resolution, or where there is none."""
    return None in (result["aupro"], old["aupro"]) or resolution.of(result) == resolution.of(old)


def _same_machine(key: tuple, now: dict, then: dict) -> bool:
    return now["machines"].get(key) == then["machines"].get(key)


def _plots(plots: dict[str, str | None]):
    changed = {name: place for name, place in plots.items() if place}
    yield f"{len(changed)} of {len(plots)} differ from the base." if changed else "No plot differs from the base."
    for name, place in changed.items():
        yield markdown_table(["Before", "Now"], [[f"![{name} before]({place})", f"![{name}](plots/{name})"]])
    rest = [f"![{name}](plots/{name})" for name in plots if name not in changed]
    if rest:
        yield "\n\n".join(["<details><summary>The other plots</summary>", *rest, "</details>"])


def _text(value) -> str:
    """A value that can break neither a table nor the page: one line, no markup."""
    text = " ".join(str(value).split())
    text = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
    for mark in "\\`*_[]<>|#@":
        text = text.replace(mark, f"\\{mark}" if mark not in "<@" else {"<": "&lt;", "@": "&#64;"}[mark])
    return text

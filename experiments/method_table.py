"""The methods side by side, each in its fastest runtime: the tables of what `experiments methods` kept."""

from pathlib import Path

from edge.errors import UserError
from edge.inference.runtimes import FORMATS
from experiments import provenance
from experiments.methods import FOLDER, LATENCY
from stages.report import resolution
from stages.report.formatting import NONE, count, markdown_list, markdown_table, mean_and_deviation, significant, size
from stages.report.summary import read_json

HEAD = ("Method", "Seeds", "AUROC", "Pixel AUROC", "AUPRO", "Params", "MACs", "Size", "Runtime", "p50 ms", "p10 to p90")
ACCURACY = ("image_auroc", "pixel_auroc", "aupro")
ROLES = ("teacher", "baseline", "student")  # in this order
NAMES = {"qat": "student", "pruned-qat": "pruned"}  # of folders, those that say what they hold in int8

Method = tuple[str, str]  # model and precision


def read(folder: Path) -> tuple[list[dict], dict]:
    """The records of all seeds, in their order, and the latencies (none: {}); UserError where nothing is kept."""
    files = sorted(path for path in (folder / FOLDER).glob("*.json") if path.name != LATENCY)
    if not files:
        raise UserError(f"{folder / FOLDER}: no record; python -m experiments methods writes one")
    times = read_json(folder / FOLDER / LATENCY) if (folder / FOLDER / LATENCY).exists() else {}
    return sorted(map(read_json, files), key=lambda found: found["seed"]), times


def grouped(records: list[dict]) -> dict[Method, list[str]]:
    """The variants of each method, by role and name, float before int8."""
    found: dict[tuple[int, str, Method], dict[str, None]] = {}
    for record in records:
        for name, one in record["variants"].items():
            method = one["model"], one["precision"]
            found.setdefault((ROLES.index(one["role"]), title(method), method), {})[name] = None
    return {place[-1]: list(found[place]) for place in sorted(found)}


def by_time(names: list[str], times: dict) -> list[str]:
    """The variants from the fastest to the slowest; those without a time last, in their order."""
    return sorted(names, key=lambda name: times.get("latency_ms", {}).get(name, float("inf")))


def behind(names: list[str], records: list[dict]) -> list[dict]:
    """The entry of the first of the variants in each record that has one of them."""
    found = []
    for record in records:
        there = [record["variants"][name] for name in names if name in record["variants"]]
        found += there[:1]
    return found


def title(method: Method) -> str:
    name = method[0].rpartition("/")[2]
    return f"{NAMES.get(name, name)}, {method[1]}"


def row(names: list[str], records: list[dict], times: dict) -> list[str]:
    """The cells of a method after its name and mark."""
    entries = behind(names, records)
    first, best = entries[0], names[0]
    cells = [str(len(entries)), *(mean_and_deviation([one[key] for one in entries]) for key in ACCURACY)]
    cells += [count(first["params"]), count(first["macs"]), size(first["size_bytes"])]
    if best not in times.get("latency_ms", {}):
        return [*cells, NONE, NONE, NONE]
    form = next(record["variants"][best]["format"] for record in records if best in record["variants"])
    between = " to ".join(map(significant, times["p10_p90_ms"][best]))
    return [*cells, FORMATS[form].title, significant(times["latency_ms"][best]), between]


def apart(methods: dict[Method, list[str]], records: list[dict]) -> float:
    """The largest difference in image AUROC of files of one method and seed in different formats."""
    found = [0.0]
    for names in methods.values():
        for record in records:
            values = [record["variants"][name]["image_auroc"] for name in names if name in record["variants"]]
            values = [value for value in values if value is not None]  # of a test of one class there is none
            found.append(max(values, default=0.0) - min(values, default=0.0))
    return max(found)


def fidelity(methods: dict[Method, list[str]], records: list[dict]) -> list[str]:
    """How many outputs of the int8 files are to the bit what the simulated network gives, in one sentence."""
    said = []
    for method, names in methods.items():
        found = [one["fidelity"]["exact"] for one in behind(names, records) if one["fidelity"]]
        said += [f"{title(method)} {min(found):.2%}"] if found else []
    return [f"Outputs of int8 files that equal the simulated network's, at least: {'; '.join(said)}."] if said else []


def runtimes(methods: dict[Method, list[str]], records: list[dict], times: dict) -> str:
    """The p50 of every method by format."""
    formats: dict[str, str] = {}
    for record in records:
        formats |= {name: one["format"] for name, one in record["variants"].items()}
    timed = times["latency_ms"]
    shown = [form for form in FORMATS if any(formats[name] == form for name in timed if name in formats)]
    rows = []
    for method, names in methods.items():
        mine = {formats[name]: timed[name] for name in reversed(names) if name in timed}  # the fastest of a format
        if mine:
            rows.append([title(method), *(significant(mine.get(form)) for form in shown)])
    return markdown_table(("Method", *(f"{FORMATS[form].title}, p50 ms" for form in shown)), rows)


def markdown(folder: Path) -> str:
    """The table of `folder`/methods and, where files were timed, that of their runtimes."""
    records, times = read(folder)
    methods = {method: by_time(names, times) for method, names in grouped(records).items()}
    entries = [behind(names, records) for names in methods.values()]
    every = [one for found in entries for one in found]
    marks, code = provenance.footnotes(entries)
    rows = [
        [f"{title(method)}{mark}", *row(names, records, times)]
        for (method, names), mark in zip(methods.items(), marks, strict=True)
    ]
    notes = [
        "Each method learns from the same good training pictures, anew for each seed, on one split; thresholds and "
        "choices of a run rest on validation pictures, none on test pictures. Mean ± standard deviation over seeds.",
        "Accuracy measured on the exported files; formats of one method differ by "
        f"{apart(methods, records):.4f} of image AUROC at most.",
        *resolution.note(every, "Pixel AUROC and AUPRO"),
        *fidelity(methods, records),
    ]
    tables = [markdown_table(resolution.head(HEAD, every), rows)]
    if times:
        known = ", ".join(f"{name} {what}" for name, what in times["versions"].items())
        where = f"{times['machine']['cpu']} ({times['machine']['int8']})"
        notes.append(
            f"Latency measured: one picture on one core, every file once in each of {times['rounds']} rounds; the "
            f"fastest runtime of each method. {where}; {known}. Times: {provenance.sentence(times)}"
        )
        tables.append(runtimes(methods, records, times))
    return "\n\n".join([*tables, markdown_list([*notes, *code])])

"""Which code made a record: its commit, the state of stages/ and edge/ there, and whether they were changed since."""

import json
import subprocess
import sys
from pathlib import Path

from edge.errors import UserError
from stages.report import formatting
from stages.report.summary import read_json

CODE = ("stages", "edge")  # what makes a model, and what runs it
MARKS = "†‡§¶"


def current() -> dict | None:
    """{commit, clean, stages, edge}: hashes of the commit and of both folders in it; None without a commit.

    params.yaml and dvc.lock are no code: a record has the settings itself.
    """
    try:
        commit, *trees = _git("rev-parse", "HEAD", *(f"HEAD:./{folder}" for folder in CODE)).split()
    except (OSError, subprocess.CalledProcessError):
        return None
    clean = not _git("status", "--porcelain", "--", *CODE)
    return {"commit": commit, "clean": clean} | dict(zip(CODE, trees, strict=True))


def of_commit(commit: str) -> dict:
    """The code of what a clean clone of the commit makes."""
    trees = _git("rev-parse", *(f"{commit}:./{folder}" for folder in CODE)).split()
    return {"commit": commit, "clean": True} | dict(zip(CODE, trees, strict=True))


def stale() -> list[str]:
    """The stages whose results are not those of the code and params that lie here, as `dvc status` sees them.

    A device that was not available leaves its stage open, and published records change the report without being code.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"dvc status failed: {' '.join(done.stderr.split())}")
    out = []
    for stage, changes in json.loads(done.stdout or "{}").items():
        parts = [part for change in changes if isinstance(change, dict) for part in change.values()]
        changed = {path for part in parts for path in part}
        row = Path(f"artifacts/bench/{stage.removeprefix('benchmark@')}.json")
        absent = row.exists() and read_json(row)["status"] == "unavailable"
        if changed != {"reports/published"} and not absent:
            out.append(stage)
    return out


def of_results(dirty: bool) -> dict | None:
    """The code that made the results here; UserError when it isn't committed or has changed since, unless `dirty`,
    which the record then says."""
    code = current()
    problem = None
    if code is None:
        problem = "there is no git commit that could be named as their code"
    elif not code["clean"]:
        problem = f"{' or '.join(CODE)} has changes that are not committed"
    elif found := stale():
        problem = f"{', '.join(found)} changed since they were made; run dvc repro"
    if problem and not dirty:
        raise UserError(f"no record of these results: {problem} (--dirty publishes them all the same, marked)")
    return code and code | {"clean": problem is None}


def sentence(record: dict) -> str:
    """Which code made a record, e.g. "Commit 1a2b3c4."."""
    name = formatting.code(record)
    return f"{name[0].upper()}{name[1:]}."


def footnotes(rows: list[list[dict]]) -> tuple[list[str], list[str]]:
    """What tells code apart in a table: a mark for each row, given the records behind it, and the note below.

    Where all are of one code the note alone says which.
    """
    names: dict = {}
    for record in (record for records in rows for record in records):
        names.setdefault(_key(record), formatting.code(record))
    if len(names) < 2:
        return [""] * len(rows), [sentence(record) for record in rows[0][:1]]
    marks = {key: MARKS[i % len(MARKS)] * (i // len(MARKS) + 1) for i, key in enumerate(names)}
    notes = [f"{mark} {names[key]}" for key, mark in marks.items()]
    of_row = ["".join(f" {mark}" for key, mark in marks.items() if key in map(_key, records)) for records in rows]
    return of_row, [f"Made by different code: {'; '.join(notes)}."]


def by_seed(runs: list[dict]) -> str:
    """The code of runs of one table that differ in their seed."""
    names: dict = {}
    for run in runs:
        names.setdefault((_key(run), formatting.code(run)), []).append(str(run["seed"]))
    if len(names) == 1:
        return sentence(runs[0])
    parts = [f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {name}" for (_, name), seeds in names.items()]
    return f"Made by different code: {'; '.join(parts)}."


def _key(record: dict):
    """Equal for records of the same code: what was not committed equals nothing but itself."""
    code = record.get("code")
    return code and (*(code[folder] for folder in CODE), code["clean"] or code["commit"])


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout

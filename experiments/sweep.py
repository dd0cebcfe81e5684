"""`python -m experiments sweep 'student.width=0.25,0.5,1.0' 'seed=0,1,2'`: runs every combination, compares them all.

Each unit is a clean clone of a commit with `dvc exp run -S`, whose results go to the DVC cache and remote, and whose
record stays in reports/sweeps/COMMIT. What is done is never done again, here or on another machine: after an
interruption, give the same command. Then come the table, the Pareto front with mean and deviation over the seeds, and
the value to try next. See docs/sweeps.md.
"""

import argparse
import json
import os
import re
import sys
import zlib
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from edge.errors import UserError
from experiments import axes, engines, pareto, project, proposal, provenance, records, sweep_table, unit
from experiments.axes import Unit
from stages.common import atomic
from stages.common.textfile import one_line
from stages.report.summary import read_json

FOLDER = Path("reports/sweeps")
MOST = 200  # units of a sweep, unless --most says more
ATTEMPTS = 2  # of a unit whose worker was killed
LOOK = 2  # seconds, after which workers that came meanwhile get units, and are missed where there are none


def record_file(folder: Path, one: Unit) -> Path:
    """Where the record of a unit is; its name is for people, its key for the program."""
    found = sorted(folder.glob(f"*-{one.key}.json"))
    name = re.sub(r"[^\w.=]+", "-", one.name, flags=re.ASCII)[:80]
    return found[0] if found else folder / f"{name}-{one.key}.json"


def run_units(todo: list[Unit], job: dict[str, Any], executor: Any, keep) -> dict[str, str]:
    """Runs the units and hands the result of each to `keep`, the first to end first; {unit: why it failed}."""
    failed: dict[str, str] = {}
    work = engines.portable(unit.do)
    attempts = dict.fromkeys((one.key for one in todo), 1)
    room = getattr(executor, "room", lambda: len(todo))
    waiting, running = deque(todo), dict[Future, Unit]()
    while waiting or running:
        free = max(room(), 1) - len(running)
        for _ in range(min(len(waiting), free)):
            one = waiting.popleft()
            running[executor.submit(work, job | {"overrides": one.overrides})] = one
        for future in wait(running, LOOK, FIRST_COMPLETED).done:
            one = running.pop(future)
            try:
                keep(one, future.result())
            except CancelledError:
                raise UserError("the scheduler is gone; what is done is kept: give the same command again") from None
            except UserError:
                raise
            except Exception as error:
                why = engines.lost(error)
                attempts[one.key] += getattr(error, "allowed_failures", 0)  # what Dask has tried by itself
                if why and attempts[one.key] < ATTEMPTS:
                    attempts[one.key] += 1
                    say(f"{one.name}: {why}; trying again")
                    waiting.append(one)
                elif why:
                    failed[one.name] = f"{why}, {attempts[one.key]} times; has it enough memory?"
                else:
                    failed[one.name] = one_line(str(error)) or type(error).__name__
                if one.name in failed:
                    say(f"{one.name}: failed: {failed[one.name]}")
    return failed


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def finished(result: dict[str, Any], code: dict, latency: bool) -> dict:
    """The record as it is kept: with the code that made it, and without a latency that other units disturbed.

    So equal settings have equal records, whichever machine of a kind made them and whatever else ran there.
    """
    try:
        record = unit_record(result["record"])
    except ValueError as error:
        raise UserError(f"{unit.RECORD} that the commit makes is no record: {error}; take another commit") from None
    if not latency:
        record["device"] = None
        for step in record["steps"].values():
            step["p50_ms"] = None
    return record | {"code": code}


def unit_record(text: str) -> dict:
    """A record from its text; ValueError for something else."""
    record = json.loads(text)
    if not isinstance(record, dict) or not {"seed", "settings", "steps"} <= record.keys():
        raise ValueError("no seed, settings and steps")
    return record


def grouped(units: list[Unit], folder: Path) -> dict[str, list[dict]]:
    """The records that are there by what they changed, one for each seed."""
    found: dict[str, list[dict]] = {}
    for one in units:
        if (path := record_file(folder, one)).exists():
            record = read_json(path)
            if not records.has_int8(record):
                raise UserError(f"{path}: {records.NO_INT8}; give one of params.yaml that step")
            found.setdefault(one.label, []).append(record)
    return found


def summary(units: list[Unit], chosen: dict[str, list], folder: Path, tree: dict) -> str:
    """The table, fronts and proposal of what is done; also in a file beside the records, with its plot."""
    changes = grouped(units, folder)
    if not changes:
        return "no unit is done"
    pictures = {run["settings"].get(records.PICTURES) for runs in changes.values() for run in runs}
    parts = [sweep_table.table(changes, compared=len(pictures) == 1)]
    name = f"table-{zlib.crc32(repr(sorted(one.key for one in units)).encode()):08x}"
    if len(pictures) == 1 and len(changes) > 1:
        fronts = [label for key in ("size_bytes", "macs", "p50_ms") for label in pareto.front(changes, key)]
        following = proposal.propose(chosen, fronts, units, partial(axes.settings_key, tree))
        parts += [f"Try next: {following}"] if following else []
        pareto.draw(changes, folder / f"{name}.png")
    text = "\n\n".join(parts) + "\n"
    with atomic.file(folder / f"{name}.md") as temporary:
        temporary.write_text(text)
    return f"{text}\nwrote {folder / name}.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("axes", nargs="+", metavar="KEY=VALUE,VALUE", help="a key of params.yaml and its values; the product is run")
    add("--engine", default="local", help="local, dask://HOST:PORT, ssh://HOST,HOST or slurm[://PARTITION] (local)")
    add("--workers", type=int, metavar="N", help="units at a time (local: as many as the cores take; slurm: 2)")
    wait = f"end when there was no worker for so long; all but local ({engines.PATIENCE})"
    add("--wait", type=int, default=engines.PATIENCE, metavar="SECONDS", help=wait)
    add("--commit", metavar="REV", help="the code and params to run (HEAD, which must hold all changes)")
    add("--repository", metavar="URL", help="where workers clone it from (this folder)")
    add("--remote", metavar="URL", help="DVC remote that all workers reach (that of this project)")
    add("--scratch", metavar="DIR", help="of each worker, for clones and cache (in its folder for temporary files)")
    add("--most", type=int, default=MOST, metavar="N", help=f"refuse more units than this ({MOST})")
    add("--latency", action="store_true", help="keep latencies, where no two units run on one machine at a time")
    add("--dry-run", action="store_true", help="only list the units and what is done")


def run(arguments: argparse.Namespace) -> None:
    """Checks everything that can be checked before the first unit runs."""
    if not 1 <= arguments.most <= axes.MOST:
        raise UserError(f"--most {arguments.most}: must be from 1 to {axes.MOST}")
    if arguments.workers is not None and not 1 <= arguments.workers <= engines.MOST_WORKERS:
        raise UserError(f"--workers {arguments.workers}: must be from 1 to {engines.MOST_WORKERS}")
    if not 1 <= arguments.wait <= engines.MOST_PATIENCE:
        raise UserError(f"--wait {arguments.wait}: must be from 1 to {engines.MOST_PATIENCE} seconds")
    engine, address = engines.find(arguments.engine)
    is_local = arguments.engine.startswith("local")
    if arguments.latency and is_local and arguments.workers != 1:
        raise UserError("--latency: units that run side by side disturb each other's; add --workers 1")
    chosen = axes.read(arguments.axes)
    commit = project.commit(arguments.commit)
    tree = project.params_of(commit)
    units = axes.units(chosen, tree, arguments.most)
    project.check_paths(tree, units, commit)
    folder = FOLDER / f"{commit[:12]}{'-latency' * arguments.latency}"
    todo = [one for one in units if not record_file(folder, one).exists()]
    say(f"{len(units)} units at commit {commit[:7]}: {len(units) - len(todo)} done, {len(todo)} to do")
    if arguments.dry_run:
        print("\n".join(f"{'to do' if one in todo else 'done':6}{one.name}" for one in units))
        return
    failed: dict[str, str] = {}
    if todo:
        job = {
            "repository": arguments.repository or project.root(),
            "folder": project.folder(),
            "commit": commit,
            "remote": project.remote(arguments.remote, is_local),
            "scratch": arguments.scratch and (os.path.abspath(arguments.scratch) if is_local else arguments.scratch),
            "cache": project.cache() if is_local else None,
        }
        code = provenance.of_commit(commit)

        def keep(one: Unit, result: dict[str, Any]) -> None:
            atomic.write_json(record_file(folder, one), finished(result, code, arguments.latency))
            say(f"{one.name}: {result['seconds']:.0f} s on {result['host']}, {len(result['ran'])} stages ran")

        workers = arguments.workers or (project.local_workers(tree) if is_local else 2)
        with engine(address, workers, arguments.wait) as executor:
            failed = run_units(todo, job, executor, keep)
    print(summary(units, chosen, folder, tree))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(units)} units failed, e.g. {next(iter(failed))}: {next(iter(failed.values()))}"
        )

"""`python -m experiments stores --points N`: what the stores of labelled defects cost here.

N made points (clusters on the unit sphere) go into each store: seconds to upsert them, milliseconds of a query (exact,
in the index, filtered by one product of a hundred with and without payload index), memory of the process and disk.
Every store is measured in a process of its own.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge.errors import UserError
from experiments import provenance
from hardware_runners.runner.remote import machine
from stages.common import atomic
from stages.common.textfile import short
from stages.defects.stores.extra import needed
from stages.defects.stores.point import Filter, Model
from stages.defects.stores.table import open_store
from stages.report.formatting import NONE, markdown_list, markdown_table
from stages.report.summary import read_json

KINDS = ("brute", "embedded")
CLUSTERS, SPREAD, PRODUCTS, LINES, QUERIES, K = 50, 0.7, 100, 7, 300, 10
STEP = 1000  # points in one upsert
SEED = 0
MODEL_SHA = "0" * 64
HEAD = (
    "Points",
    "Store",
    "Upsert s",
    "Index s",
    "Exact p50 / p99 ms",
    "Indexed p50 / p99 ms",
    "Recall of the index",
    "Filtered p50 / p99 ms",
    "Filtered without payload index",
    "Memory MB",
    "Disk MB",
)


def made(count: int, dimension: int, seed: int) -> np.ndarray:
    """float32 [count, dimension] of unit length, in clusters that are the same for every seed."""
    centres = np.random.default_rng(SEED).normal(size=(CLUSTERS, dimension)).astype(np.float32)
    random = np.random.default_rng(seed)
    found = centres[random.integers(0, CLUSTERS, count)]
    found += SPREAD * random.normal(size=(count, dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def payload(number: int) -> dict:
    return {
        "type": f"type {number % 20}",
        "picture": f"line {number % LINES}/{number:07}.png",
        "box": [8, 16, 24, 32],
        "score": 0.5,
        "product": f"product {number % PRODUCTS}",
        "line": f"line {number % LINES}",
        "time": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T{number % 24:02}:30:00Z",
    }


def measure(kind: str, points: int, dimension: int, folder: Path) -> dict:
    """The row of one store."""
    vectors, queries = made(points, dimension, 1), made(QUERIES, dimension, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    store = open_store(kind, str(folder), "measured", Model(MODEL_SHA, dimension))
    upsert = 0.0
    for start in range(0, points, STEP):
        rows = range(start, min(points, start + STEP))
        payloads = [payload(number) for number in rows]
        began = time.perf_counter()
        store.upsert(vectors[rows.start : rows.stop], payloads)
        upsert += time.perf_counter() - began
    began = time.perf_counter()
    store.close()
    closing = time.perf_counter() - began
    store = open_store(kind, str(folder), "measured")
    row: dict = {"points": points, "store": kind, "upsert_s": upsert, "close_s": closing}
    one = Filter(products=("product 3",))
    if kind == "embedded":
        began = time.perf_counter()
        store.index()
        row["index_s"] = time.perf_counter() - began
    row["exact_ms"], exact = timed(store, queries, Filter(), True)
    row["filtered_ms"], _ = timed(store, queries, one, True)
    if kind == "embedded":
        row["indexed_ms"], found = timed(store, queries, Filter(), False)
        hits = [len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]
        row["indexed_recall"] = sum(hits) / (K * QUERIES)
        shard, drop = vars(store)["_shard"], needed("qdrant_edge", kind).UpdateOperation.delete_field_index
        shard.update(drop("product"))
        row["filtered_without_index_ms"], _ = timed(store, queries[: QUERIES // 10], one, True)
    store.close()
    row["memory_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    row["disk_mb"] = sum(file.st_blocks * 512 for file in files) / 1e6
    return row


def timed(store, queries: np.ndarray, chosen: Filter, exact: bool) -> tuple[dict, list[list[str]]]:
    """{p50, p99} of one query at a time in milliseconds, and the ids found; the first queries are not counted."""
    for query in queries[:5]:
        store.query(query[None], K, chosen, exact)
    seconds, found = [], []
    for query in queries:
        began = time.perf_counter()
        (neighbours,) = store.query(query[None], K, chosen, exact)
        seconds.append(time.perf_counter() - began)
        found.append([one.id for one in neighbours])
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return {"p50": float(p50), "p99": float(p99)}, found


def markdown(folder: Path) -> str:
    """The table of all records in `folder`."""
    records = [read_json(path) for path in sorted(folder.glob("*.json"))]
    if not records:
        raise UserError(f"{folder}: no records of experiments stores")
    records.sort(key=lambda record: record["rows"][0]["points"])
    rows = [cells(row) for record in records for row in record["rows"]]
    first = records[0]
    notes = [
        f"{first['dimension']} numbers a vector, {first['k']} neighbours, {first['queries']} queries, one at a time; "
        f"{first['cpu']}, {first['threads']} thread of numpy. Upsert in steps of {STEP}, each acknowledged, and close. "
        f"Filtered: exact, one product of {PRODUCTS}. Memory: by how much the process grew at most. The server was not "
        "measured.",
        *dict.fromkeys(record["note"] for record in records if record["note"]),
    ]
    notes += list(dict.fromkeys(provenance.sentence(record) for record in records))
    return f"{markdown_table(HEAD, rows)}\n\n{markdown_list(notes)}"


def cells(row: dict) -> list[str]:
    def pair(key: str) -> str:
        return f"{row[key]['p50']:.2f} / {row[key]['p99']:.2f}" if key in row else NONE

    recall = f"{row['indexed_recall']:.3f}" if "indexed_recall" in row else NONE
    index = f"{row['index_s']:.1f}" if "index_s" in row else NONE
    first = [f"{row['points']:,}".replace(",", " "), row["store"], f"{row['upsert_s'] + row['close_s']:.1f}", index]
    columns = [pair("exact_ms"), pair("indexed_ms"), recall, pair("filtered_ms"), pair("filtered_without_index_ms")]
    return [*first, *columns, f"{row['memory_mb']:.0f}", f"{row['disk_mb']:.0f}"]


def add_arguments(parser) -> None:
    parser.add_argument("--points", type=int, default=100_000, metavar="N", help="how many (100000)")
    parser.add_argument("--dimension", type=int, default=64, metavar="D", help="numbers in a vector (64)")
    parser.add_argument("--stores", nargs="+", choices=KINDS, default=KINDS, help="which (all that need no server)")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="on which disk (that of temporary files)")
    parser.add_argument("--note", default="", metavar="TEXT", help="what else ran, for the record")
    parser.add_argument("--output", type=Path, default=Path("reports/stores.json"), metavar="FILE")
    parser.add_argument("--only", choices=KINDS, help="measure this store here and print its row")


def run(arguments) -> None:
    if arguments.points < QUERIES or not 2 <= arguments.dimension <= 4096:
        raise UserError(f"needs at least {QUERIES} points and 2 to 4096 numbers a vector")
    if arguments.folder and not arguments.folder.is_dir():
        raise UserError(f"--folder {short(arguments.folder)}: no such folder")
    if arguments.only:
        found = measure(arguments.only, arguments.points, arguments.dimension, arguments.folder)
        print(json.dumps(found))
        return
    rows = [in_process(kind, arguments) for kind in arguments.stores]
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    record = {
        "dimension": arguments.dimension,
        "k": K,
        "queries": QUERIES,
        "seed": SEED,
        "cpu": f"{machine.cpu_model() or NONE}, {os.cpu_count()} cores",
        "threads": int(threads),
        "note": arguments.note,
        "rows": rows,
        "code": provenance.current(),
    }
    atomic.write_json(arguments.output, record)
    print(f"wrote {arguments.output}")


def in_process(kind: str, arguments) -> dict:
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    command = [sys.executable, "-m", "experiments", "stores", "--only", kind, "--folder", str(folder)]
    command += ["--points", str(arguments.points), "--dimension", str(arguments.dimension)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{kind}: {short(done.stderr.strip().splitlines()[-1:] or 'was killed')}")
        row = json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(" ".join(cells(row)), flush=True)
    return row

"""The Edge TPU variant of an int8 file: compiled where there is a compiler, else predicted; as a record for reports."""

import shutil
import tempfile
from pathlib import Path

from edge.errors import UserError
from stages.compile.edgetpu import compiler
from stages.compile.edgetpu.graph import read, write_inline
from stages.compile.edgetpu.mapping import Placement, parameter_bytes, place, read_source
from stages.compile.edgetpu.package import read_compiled


def build(source: Path, folder: Path, setting: str | None) -> dict:
    """Compiles an int8 .tflite file into `folder` where there is a compiler; returns what runs where.

    setting: compile.edgetpu_compiler, a path or name, None to look in PATH. The record holds `how` ("compiled" or
    "predicted"), `file` (None where predicted), `ops`, `mapped`, `cpu` (op, count or index, why, source), `subgraphs`,
    `parameter_bytes` (of the mapped operators, in the source file), and where compiled, else None: `on_chip_bytes`,
    `streamed_bytes`, `min_runtime_version` and `compiler`. UserError for a bad file, setting or compilation.
    """
    read_source(source)  # so that a bad file is named by its own path
    with tempfile.TemporaryDirectory() as work:
        inline = Path(work) / source.name
        write_inline(source, inline)
        record = predicted(place(read(inline), source))
        program = compiler.find(setting)
        if program is None:
            return record
        made, log = compiler.run(program, inline, Path(work))
        found = read_compiled(made)
        if len(found.packages) != log.subgraphs:
            raise UserError(f"{made.name}: {len(found.packages)} subgraphs, but the compiler says {log.subgraphs}")
        shutil.copyfile(made, folder / made.name)
    return record | {
        "how": "compiled",
        "file": made.name,
        "ops": log.operations,
        "mapped": log.mapped,
        "cpu": [{"op": r["op"], "count": r["count"], "why": r["status"], "source": "compiler"} for r in log.cpu],
        "subgraphs": log.subgraphs,
        "on_chip_bytes": found.on_chip_bytes,
        "streamed_bytes": found.streamed_bytes,
        "min_runtime_version": found.min_runtime_version,
        "compiler": log.version,
        "predicted_mapped": record["mapped"],
    }


def predicted(placed: list[Placement]) -> dict:
    """The record of a prediction."""
    mapped = sum(p.mapped for p in placed)
    return {
        "how": "predicted",
        "file": None,
        "ops": len(placed),
        "mapped": mapped,
        "cpu": [
            {"op": p.op.kind, "index": p.op.index, "why": p.reason.text, "source": p.reason.source}
            for p in placed
            if p.reason
        ],
        "subgraphs": int(mapped > 0),
        "parameter_bytes": parameter_bytes(placed),
        "on_chip_bytes": None,
        "streamed_bytes": None,
        "min_runtime_version": None,
        "compiler": None,
    }

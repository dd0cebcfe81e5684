"""Runs Google's closed `edgetpu_compiler` where there is one, and reads what it prints."""

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.errors import UserError

NAME = "edgetpu_compiler"
TIMEOUT = 600  # s; the compiler itself gives up after 180
MAPPED = "Mapped to Edge TPU"
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")
_ROW = re.compile(r"^(\S+)\s+(\d+)\s+(\S.*?)\s*$", re.MULTILINE)
_SIZE = r":\s*([\d.]+)\s*(B|KiB|MiB|GiB)\b"
_ON_CHIP = re.compile(r"^On-chip memory used for caching model parameters" + _SIZE, re.MULTILINE)
_STREAMED = re.compile(r"^Off-chip memory used for streaming uncached model parameters" + _SIZE, re.MULTILINE)
_SUBGRAPHS = re.compile(r"^Number of Edge TPU subgraphs:\s*(\d+)", re.MULTILINE)
_TOTAL = re.compile(r"^Total number of operations:\s*(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One line of the table: how many operators of a kind have a status."""

    op: str
    count: int
    status: str


@dataclass(frozen=True)
class Log:
    """What the compiler reports; sizes in bytes, rounded by it to two digits of their unit."""

    version: str
    operations: int
    subgraphs: int
    on_chip_bytes: int
    streamed_bytes: int
    rows: list[Row]

    @property
    def mapped(self) -> int:
        return sum(r.count for r in self.rows if r.status == MAPPED)

    @property
    def cpu(self) -> list[dict]:
        return [asdict(r) for r in self.rows if r.status != MAPPED]


def parse_log(text: str) -> Log:
    """Reads the output of `edgetpu_compiler --show_operations`; UserError where a figure is missing in it."""
    table = re.split(r"^Operator\s+Count\s+Status\s*$", text, maxsplit=1, flags=re.MULTILINE)
    rows = [Row(op, int(count), status) for op, count, status in _ROW.findall(table[1])] if len(table) > 1 else []
    log = Log(
        version=_found(_VERSION, text, "compiler version")[0],
        operations=int(_found(_TOTAL, text, "number of operations")[0]),
        subgraphs=int(_found(_SUBGRAPHS, text, "number of subgraphs")[0]),
        on_chip_bytes=_bytes(_found(_ON_CHIP, text, "on-chip memory")),
        streamed_bytes=_bytes(_found(_STREAMED, text, "off-chip memory")),
        rows=rows,
    )
    if sum(r.count for r in rows) != log.operations:
        raise UserError(
            f"{NAME}: its table holds {sum(r.count for r in rows)} of {log.operations} operations; its output has "
            "another form than that of versions 14 to 16"
        )
    return log


def find(setting: str | None) -> Path | None:
    """The compiler: the one that the setting names (UserError where it is none), else that of PATH, else None."""
    found = shutil.which(setting or NAME)
    if setting and not found:
        raise UserError(f"compile.edgetpu_compiler: {setting} is no program; install it or set null to look in PATH")
    return Path(found) if found else None


def run(compiler: Path, source: Path, folder: Path) -> tuple[Path, Log]:
    """Compiles `source` into `folder`; returns the file <name>_edgetpu.tflite and the log."""
    command = [str(compiler), "--show_operations", "--out_dir", str(folder), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except OSError as error:
        raise UserError(f"{compiler}: can't be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{compiler}: not done with {source.name} after {TIMEOUT} s") from None
    output = done.stdout + done.stderr
    path = folder / f"{source.stem}_edgetpu.tflite"
    if done.returncode or not path.is_file():
        raise UserError(f"{compiler}: {source.name} was not compiled: {_complaint(output, done.returncode)}")
    return path, parse_log(output)


def _complaint(output: str, code: int) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith(("Compilation failed: ", "Model not quantized"))]
    return (reasons or lines or [f"exit code {code}, nothing printed"])[-1]


def _found(pattern: re.Pattern, text: str, what: str) -> tuple[str, ...]:
    match = pattern.search(text)
    if not match:
        raise UserError(f"{NAME}: no {what} in its output; it has another form than that of versions 14 to 16")
    return match.groups()


def _bytes(size: tuple[str, ...]) -> int:
    number, unit = size
    return round(float(number) * UNITS[unit])

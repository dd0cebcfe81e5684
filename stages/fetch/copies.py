"""`dvc exp run --temp` and `--queue` work in a copy of what Git tracks: what else is missing there is not missing."""

import shlex
from pathlib import Path

from edge.errors import UserError

INSIDE = (".dvc", "tmp", "exps")  # where DVC makes its copies
SHOWN = 4  # names in a line; a choice


def original() -> Path | None:
    """The repository whose copy the working folder is; None where it is no copy."""
    parts = Path.cwd().parts
    for i in range(len(parts)):
        if parts[i : i + len(INSIDE)] == INSIDE:
            return Path(*parts[:i])
    return None


def reason(error: UserError, paths: list[str]) -> UserError:
    """The error, or the true reason where it names what of the relative `paths`, or of what lies in them, was left out
    of a copy."""
    root, said = original(), str(error)
    left_out = [name for path in paths for name in _left_out(Path(path), root / path)] if root else []
    if not any(str(name) in said or said.startswith(f"{name.parent}:") for name in left_out):
        return error
    missing = [str(name) for name in left_out]
    options = " ".join(f"-C {shlex.quote(name)}" for name in missing[:SHOWN])
    return UserError(
        f"{missing[0]}: not in this copy of what Git tracks, in which dvc exp run --temp and --queue work; run it "
        "without them, track the pictures by dvc add and git add, or take along what is missing: "
        f"{options}" + " ..." * (len(missing) > SHOWN)
    )


def _left_out(here: Path, there: Path) -> list[Path]:
    """What of a file or a folder of the original, `there`, isn't in the copy: whole folders by their name alone."""
    if there.is_dir() and here.is_dir():
        return [found for entry in sorted(there.iterdir()) for found in _left_out(here / entry.name, entry)]
    return [here] if there.exists() and not here.exists() and not there.name.startswith(".") else []

"""What DVC sees of data/raw, on whose content `fetch` depends: it follows links to files, but not links to folders, and
a folder that `dvc add` tracks may not have been pulled."""

import os
from pathlib import Path

from edge.errors import UserError
from stages.common.textfile import short

ROOT = "data/raw"


def is_watched(path: str | Path) -> bool:
    """Whether a path lies in data/raw, by its name or by where its links lead."""
    try:
        return _inside(path, os.path.abspath) or _inside(path, os.path.realpath)
    except (OSError, ValueError):  # no path: the source says what is wrong
        return False


def _inside(path: str | Path, where) -> bool:
    return os.path.commonpath([where(path), where(ROOT)]) == where(ROOT)


def check(path: str | Path) -> None:
    """UserError where what is read at `path` in data/raw isn't what DVC hashes: a link to a folder on the way to it or
    below it, or what `dvc add` tracks and isn't here. Outside data/raw DVC watches nothing, as the docs say."""
    if not is_watched(path):
        return
    place = Path(os.path.normpath(path) if _inside(path, os.path.abspath) else os.path.realpath(path))
    for step in (place, *place.parents):
        if step != Path(ROOT) and is_watched(step):
            _refuse_link(step)
            _refuse_absent(step.with_name(f"{step.name}.dvc"))
    for folder, deeper, files in os.walk(place):
        for name in sorted(deeper):
            _refuse_link(Path(folder, name))
        for name in sorted(name for name in files if name.endswith(".dvc")):
            _refuse_absent(Path(folder, name))


def _refuse_link(step: Path) -> None:
    if step.is_symlink() and step.is_dir() and os.path.abspath(step) != os.path.abspath(ROOT):
        raise UserError(
            f"{short(step)}: a link to a folder, in which DVC sees no change; move the folder there and run dvc add "
            f"{short(step)}, or set data.path to {short(os.path.realpath(step))}, which DVC doesn't watch"
        )


def _refuse_absent(tracked: Path) -> None:
    if tracked.is_file() and not tracked.with_suffix("").exists():
        raise UserError(
            f"{short(tracked.with_suffix(''))}: tracked by DVC, but not here; run dvc pull {short(tracked)} "
            "(what is in no remote yet, whoever has it pushes: dvc push)"
        )

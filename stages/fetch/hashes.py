"""Verifies the files of a source against a list in the format of sha256sum (GNU coreutils)."""

import re
from pathlib import Path

from edge.errors import UserError
from stages.common.dataset import sha256
from stages.common.progress import track
from stages.common.textfile import read_text, short
from stages.fetch.picture import Picture

MOST = 1 << 28  # bytes of a list: a choice, three million files


def read(path: Path) -> dict[str, str]:
    """The sha256 of each listed file by its name, which is relative to the root of the source."""
    try:
        path = path.expanduser()
    except RuntimeError:
        raise UserError(f"{short(path)}: can't be read: no such user; correct data.hashes") from None
    out = {}
    for number, line in enumerate(read_text(path, "correct data.hashes", MOST).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line)
        if not match:
            where = f"{short(path)}:{number}"
            raise UserError(f"{where}: not a line of sha256sum (64 hex digits, two spaces, a name); correct it")
        out[match[2]] = match[1].lower()
    if not out:
        raise UserError(f"{short(path)}: the list of hashes is empty; correct data.hashes")
    return out


def verify_pictures(root: Path, pictures: list[Picture], listed: str | None) -> None:
    """Verifies the images and masks against the list in the file `listed` (null: there is none)."""
    if listed:
        verify(root, [file for picture in pictures for file in picture.files], read(Path(listed)))


def verify(root: Path, files: list[Path], expected: dict[str, str]) -> None:
    """UserError when `files` under `root` are not exactly those expected; it names the first and says how many."""
    present = {file.relative_to(root).as_posix(): file for file in files}
    wrong = dict.fromkeys(sorted(expected.keys() - present.keys()), "missing")
    wrong |= dict.fromkeys(sorted(present.keys() - expected.keys()), "not in the list")
    for name in track(sorted(expected.keys() & present.keys()), "verify hashes"):
        if sha256(present[name]) != expected[name]:
            wrong[name] = "different"
    if wrong:
        first = min(wrong)
        kinds = list(wrong.values())
        counts = ", ".join(f"{kinds.count(k)} {k}" for k in ("different", "missing", "not in the list") if k in kinds)
        raise UserError(
            f"{root / first}: {wrong[first]} ({counts} of {len(expected)} listed files); "
            "fetch the dataset again, or give your own list in data.hashes"
        )

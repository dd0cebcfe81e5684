"""Finds archives and unpacks the wanted members; nothing can be written outside the folder they are unpacked into.

The filters of tarfile (PEP 706) would do that for tar only, and zipfile renames such members without a word.
"""

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.common.progress import track

SUFFIXES = (".zip", ".tar", ".tar.xz", ".tar.gz", ".tgz")
BROKEN = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)
Place = Callable[[tuple[str, ...]], PurePosixPath | None]


def existing(path: str) -> Path:
    """`data.path` as a Path; UserError where nothing is there."""
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{path}: no such file or folder; correct data.path")
    return found


def only_one(folder: Path, hint: str, content: str) -> Path:
    """The archive in `folder`, the one whose name contains `hint` where there are several; UserError if that isn't one.

    `content` is what an unpacked folder would hold, for the message.
    """
    archives = sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(SUFFIXES))
    archives = [p for p in archives if hint in p.name] or archives
    if len(archives) != 1:
        found = f"several archives ({', '.join(p.name for p in archives)})" if archives else "neither an archive"
        rest = "" if archives else f" nor {content}"
        raise UserError(f"{folder}: holds {found}{rest}; set data.path to the archive or the unpacked folder")
    return archives[0]


def extract(path: Path, into: Path, place: Place) -> None:
    """Unpacks a zip or tar file; UserError for one that is broken, encrypted or reaches outside.

    `place` gets the parts of a member's name and returns where under `into` it goes, or None to leave it out.
    """
    try:
        members = _zip(path) if zipfile.is_zipfile(path) else _tar(path)
        for name, is_plain, open_member in track(members, f"unpack {path.name}"):
            target = place(_safe_parts(path, name))
            if target is None:
                continue
            if not is_plain:
                raise UserError(f"{path}: {name} is a link or device; not unpacked")
            file = into / target
            file.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(file, "wb") as out:
                shutil.copyfileobj(source, out)
    except (*BROKEN, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a whole archive ({error}); remove it and run again, or replace it") from None
    except (NotImplementedError, RuntimeError) as error:  # what zipfile says to an unknown method, to encryption
        raise UserError(f"{path}: can't be unpacked ({error}); unpack it yourself and set data.path") from None


def _safe_parts(path: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's name; UserError where it could lead outside (backslashes do on Windows)."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise UserError(f"{path}: the archive names a file outside itself, {name!r}; not unpacked")
    return pure.parts


def _zip(path: Path) -> Iterator:
    """(name, whether it is a plain file, how to open it) of every member that is no folder."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)
                yield info.filename, kind in (0, stat.S_IFREG), lambda info=info: archive.open(info)


def _tar(path: Path) -> Iterator:
    """As `_zip`; read as a stream, since going back in a compressed file would mean unpacking it again."""
    with tarfile.open(path, "r|*") as archive:
        for info in archive:
            if not info.isdir():
                yield info.name, info.isreg(), lambda info=info: archive.extractfile(info)

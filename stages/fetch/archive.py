"""Finds archives and unpacks the wanted members; nothing can be written outside the folder they are unpacked into.

The filters of tarfile (PEP 706) would do that for tar only, and zipfile renames such members without a word.
"""

import errno
import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.common.progress import track
from stages.common.textfile import open_regular, reason, short

SUFFIXES = (".zip", ".tar", ".tar.xz", ".tar.gz", ".tgz")
# choices: the whole of MVTec AD unpacks to 5 GB in 6600 members
MAX_BYTES = 64 << 30  # of all members together, unpacked
MAX_MEMBERS = 1_000_000
BLOCK = 1 << 20  # bytes copied at once
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # wrong with the place that is written to
SHOWN = 10  # names in one message
HEADER = 1 << 20  # bytes of a header, such as a long name, which tarfile reads at once
HEADERS = {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
HEADERS |= {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
Place = Callable[[tuple[str, ...]], PurePosixPath | None]


def below(parts: tuple[str, ...], *folders: Collection[str]) -> PurePosixPath | None:
    """Where a member of an archive goes, given the parts of its name: from the first of `folders` on, each of which is
    one of the names given for it; None for what isn't in them, and for hidden files."""
    for i in range(len(parts) - len(folders)):
        if all(part in names for part, names in zip(parts[i:], folders, strict=False)):
            return None if parts[-1].startswith(".") else PurePosixPath(*parts[i:])
    return None


def existing(path: str) -> Path:
    """`data.path` as a Path; UserError where there is neither a folder nor a regular file."""
    try:
        found = Path(path).expanduser()
        mode = found.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{short(path)}: no such file or folder; correct data.path") from None
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~ of an unknown user
        raise UserError(f"data.path = {short(path)}: can't be read: {reason(error)}; correct it") from None
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"data.path = {short(path)}: neither a folder nor a regular file; correct it")
    return found


def only_one(folder: Path, hint: str, content: str) -> Path:
    """The archive in `folder`, the one whose name contains `hint` where there are several; UserError if that isn't one.

    `content` is what an unpacked folder would hold, for the message.
    """
    archives = sorted(p for p in folder.iterdir() if p.is_file() and p.name.endswith(SUFFIXES))
    archives = [p for p in archives if hint in p.name] or archives
    if len(archives) != 1:
        found = f"several archives ({few(p.name for p in archives)})" if archives else "neither an archive"
        rest = "" if archives else f" nor {content}"
        raise UserError(f"{folder}: holds {found}{rest}; set data.path to the archive or the unpacked folder")
    return archives[0]


def few(names) -> str:
    """The first names, in one line."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(short(name) for name in names[:SHOWN]) + more


def extract(path: Path, into: Path, place: Place) -> None:
    """Unpacks a zip or tar file; UserError for one that is broken, encrypted, too large or reaches outside.

    `place` gets the parts of a member's name and returns where under `into` it goes, or None to leave it out.
    """
    open_regular(path, "correct data.path").close()
    with _explained(path):
        members = _zip(path) if zipfile.is_zipfile(path) else _tar(path)
        for name, is_plain, open_member in track(members, f"unpack {path.name}"):
            target = place(_safe_parts(path, name))
            if target is None:
                continue
            if not is_plain:
                raise UserError(f"{path}: {short(name)} is a link or device; not unpacked")
            file = into / target
            file.parent.mkdir(parents=True, exist_ok=True)
            with open_member() as source, open(file, "wb") as out:
                while block := source.read(BLOCK):
                    out.write(block)


@contextmanager
def _explained(path: Path):
    """UserError for whatever the modules of Python raise in an archive that is damaged or made to be so."""
    try:
        yield
    except UserError:
        raise
    except (NotImplementedError, RuntimeError, MemoryError) as error:  # an unknown method, encryption
        raise UserError(f"{path}: can't be unpacked ({error}); unpack it yourself and set data.path") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OURS:
            raise
        why = short(reason(error) or type(error).__name__)
        raise UserError(f"{path}: not a whole archive ({why}); remove it and run again, or replace it") from None


def _safe_parts(path: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's name; UserError where it could lead outside (backslashes do on Windows)."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise UserError(f"{path}: the archive names a file outside itself, {short(repr(name))}; not unpacked")
    return pure.parts


def _within_limits(path: Path, members: int, size: int) -> None:
    """UserError for an archive that would unpack to more than anyone needs: most likely it is made to fill the disk."""
    if members > MAX_MEMBERS:
        raise UserError(f"{path}: more than {MAX_MEMBERS} members; unpack what you need and set data.path")
    if size > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES >> 30} GiB unpacked; unpack what you need and set data.path")


def _zip(path: Path) -> Iterator:
    """(name, whether it is a plain file, how to open it) of every member that is no folder.

    zipfile reads no more of a member than the size that counts here.
    """
    with zipfile.ZipFile(path) as archive:
        listed = archive.infolist()
        _within_limits(path, len(listed), sum(info.file_size for info in listed))
        for info in listed:
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)
                yield info.filename, kind in (0, stat.S_IFREG), lambda info=info: archive.open(info)


class _Info(tarfile.TarInfo):
    """A member whose headers have a limit."""

    def _proc_member(self, archive):  # the method that tarfile means to be overridden
        if self.type in HEADERS and self.size > HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _tar(path: Path) -> Iterator:
    """As `_zip`; read as a stream, since going back in a compressed file would mean unpacking it again. What is left
    out counts too: it is unpacked to get past it. The size of a sparse member is that with its holes."""
    members = size = 0
    with tarfile.open(path, "r|*", tarinfo=_Info) as archive:
        for info in archive:
            members, size = members + 1, size + info.size
            _within_limits(path, members, size)
            if not info.isdir():
                yield info.name, info.isreg(), lambda info=info: archive.extractfile(info)
            archive.members = []  # type: ignore[attr-defined]  # else a list of all of them is kept

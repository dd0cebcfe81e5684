"""A published data set: its folder or archive, wherever the user has it, and whether it is what was published."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edge.address import masked
from edge.errors import UserError
from stages.common.dataset import sha256
from stages.fetch import archive, download, hashes
from stages.fetch.picture import Picture


@dataclass(frozen=True)
class Published:
    """What is known of a data set.

    content: what its folder holds, for messages. hint: part of the name of its archives. url, file, sha256: of the
    public archive; page: where people get it where there is no such address. categories: `data.category` is one of
    them, each a folder that holds `marker`; none: the data set is one.
    """

    name: str
    licence: str
    content: str
    hint: str
    url: str | None = None
    file: str | None = None
    sha256: str | None = None
    page: str = ""
    categories: tuple[str, ...] = ()
    marker: str = ""


@dataclass(frozen=True)
class Source:
    """The folder of a data set, and the archive that it was unpacked from, if any."""

    root: Path
    archive: Path | None


def find(
    known: Published, data, work: Path, keep: Callable[[tuple[str, ...]], PurePosixPath | None], there=None
) -> Source:
    """The folder at `data.path`, or of the download; UserError where there is none.

    keep: where a member of an archive goes, given the parts of its name (None: left out). there: whether a folder is
    the data set; without it, whether it holds `data.category`.
    """
    holds = there or (lambda folder: (folder / data.category / known.marker).is_dir())
    if known.categories and data.category not in known.categories:
        raise UserError(
            f"data.category = {data.category!r}: {known.name} has no such category; "
            f"choose one of {', '.join(known.categories)}"
        )
    path = _path(known, data)
    if path.is_dir() and known.categories and path.resolve().name == data.category and (path / known.marker).is_dir():
        return Source(path.resolve().parent, None)
    if path.is_dir() and (root := _below(path, holds)):
        return Source(root, None)
    if path.is_dir():
        _refuse_other(known, path, data.category)
        path = archive.only_one(path, known.hint, known.content)
    _check_archive(known, data, path)
    others: set[str] = set()

    def place(parts: tuple[str, ...]) -> PurePosixPath | None:
        others.update(set(parts[:-1]) & set(known.categories))
        return keep(parts)

    archive.extract(path, work, place)
    root = _below(work, holds)
    if root is None and others - {data.category}:
        raise _other(path, data.category, others - {data.category})
    if root is None:
        raise UserError(f"{path}: holds no {known.content}; is it the archive of {known.name}? correct data.path")
    return Source(root, path)


def verified(
    known: Published, data, source: Source, files: Iterable[Path], pictures: list[Picture], within: str = ""
) -> list[Picture]:
    """The pictures after `files`, those that were read, are compared with the list in `data.hashes`; without a list, a
    download from another address is marked in the index. within: the part of the names in the list that counts."""
    expected = hashes.read(Path(data.hashes)) if data.hashes else {}
    inside = {name: digest for name, digest in expected.items() if name.startswith(within)}
    listed = source.archive is not None and source.archive.name in inside | expected
    if inside and not (listed and len(inside) == 1):
        inside.pop(source.archive.name if source.archive else "", None)
        hashes.verify(source.root, sorted(set(files)), inside)
    elif data.hashes and not listed:
        raise UserError(
            f"{data.hashes}: lists neither files of {within or known.name} nor the archive; correct data.hashes"
        )
    elif source.archive and data.url and data.path is None and not data.hashes:
        return unverified(data.url, source.archive, pictures)
    return pictures


def unverified(url: str, file: Path, pictures: list[Picture]) -> list[Picture]:
    """The pictures of a download that nobody can compare with what was published, marked; a line says so."""
    print(
        f"warning: UNVERIFIED data: {masked(url)} has no known hash, so nobody knows whether it is what was "
        f"published; its sha256 is {sha256(file)}; give a list in data.hashes",
        flush=True,
    )
    return [replace(picture, unverified=True) for picture in pictures]


def _path(known: Published, data) -> Path:
    """The place that the user names, or the download."""
    if data.path is not None:
        return archive.existing(data.path)
    print(f"{known.name}: {known.licence}", flush=True)
    url = data.url or known.url
    if url is None:
        raise UserError(
            f"data.path is null, but {known.name} isn't downloaded; get it from {known.page}, set data.path"
        )
    listed = not data.url or bool(data.hashes)
    return download.fetch(url, None if data.url else known.file, listed=listed)


def _below(folder: Path, holds: Callable[[Path], bool]) -> Path | None:
    """The folder, or the first in it, that holds what is looked for."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return next((place for place in (folder, *inside) if holds(place)), None)


def _refuse_other(known: Published, folder: Path, category: str) -> None:
    """UserError that names the categories which are in a folder instead of the one that is wanted."""
    places = (folder, *(entry for entry in sorted(folder.iterdir()) if entry.is_dir()))
    if found := {name for name in known.categories for place in places if (place / name / known.marker).is_dir()}:
        raise _other(folder, category, found)


def _other(where: Path, category: str, found: set[str]) -> UserError:
    return UserError(f"{where}: has no category {category!r}; set data.category to one of {archive.few(found)}")


def _check_archive(known: Published, data, path: Path) -> None:
    """UserError where an archive with a known hash has another one."""
    listed = hashes.read(Path(data.hashes)) if data.hashes else {}
    wanted = listed.get(path.name) or (known.sha256 if path.name == known.file and not data.url else None)
    if not wanted or sha256(path) == wanted:
        return
    ours = data.path is None
    if ours:
        path.unlink()
    raise UserError(
        f"{path}: its sha256 is not {wanted}; "
        + ("removed, run again to download it anew" if ours else "replace the file")
    )

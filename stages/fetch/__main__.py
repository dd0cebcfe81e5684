"""Download or generate the images, verify them, split them: writes data/train and data/test."""

import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from edge.errors import UserError
from stages.common.atomic import directory
from stages.common.dataset import Item, sha256, write_index
from stages.common.stage import main
from stages.common.textfile import short
from stages.fetch import copies, groups, sources
from stages.fetch.picture import Picture, check, check_types
from stages.fetch.split import split

OUTPUTS, SCRATCH = (Path("data/train"), Path("data/test")), Path("data/.fetch.tmp")


def run(params) -> None:
    """Runs the stage; nothing is written before everything is verified."""
    try:
        _run(params)
    except UserError as error:
        data = params.data
        group = str(data.group or "").rpartition(":")[0] or data.group
        paths = [path for path in (data.path or "data/raw", data.hashes, group) if path]
        raise copies.reason(error, paths) from None


def _run(params) -> None:
    data = params.data
    check_place(data.path)
    with scratch(SCRATCH) as work:
        pictures = sources.load(data, work)
        check_types(pictures)
        check(pictures, params.input.depth)
        find = data.group_near_duplicates and sources.near_duplicates(data)
        pictures = groups.assign(pictures, data.group, find, params.input.depth)
        digests = [sha256(picture.file) for picture in pictures]
        drawn = split(pictures, digests, data)
        with directory(OUTPUTS[0]) as train, directory(OUTPUTS[1]) as test:
            for out, names in ((train, ("train", "val")), (test, ("test",))):
                items = [place(out, pictures[i], digests[i], name, group) for i, name, group in drawn if name in names]
                write_index(out, sorted(items, key=lambda item: (item.clip, item.frame, item.path)))
    for name in ("train", "val", "test"):
        defects = Counter(pictures[i].defect for i, s, _ in drawn if s == name)
        print(f"{name}: " + ", ".join(f"{count} {defect}" for defect, count in sorted(defects.items())), flush=True)


def check_place(path: str | None) -> None:
    """UserError for a `data.path` where this stage and DVC write, for they delete what is there first."""
    try:
        place = Path(path or "data/raw").resolve()
    except (OSError, RuntimeError, ValueError):  # no path: the source says what is wrong
        return
    for own in (own.resolve() for own in (*OUTPUTS, SCRATCH)):
        if place == own or own in place.parents or place == own.parent:
            raise UserError(
                f"data.path = {short(path)}: fetch writes there; move the pictures to data/raw, and set null"
            )


@contextmanager
def scratch(path: Path):
    """A folder for unpacked and drawn files, empty at first, gone at the end."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def place(out: Path, picture: Picture, digest: str, split_name: str, group: str) -> Item:
    """Copies the picture and its mask byte for byte; returns what the index says of it."""
    path = f"images/{picture.name}"
    mask = f"masks/{picture.clip or picture.defect}/{picture.mask.name}" if picture.mask else ""
    for source, name in ((picture.file, path), (picture.mask, mask)):
        if source:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, out / name)
    more = (picture.clip, picture.frame, int(picture.unverified), picture.part)
    return Item(path, split_name, int(picture.defect != "good"), picture.defect, mask, digest, group, *more)


if __name__ == "__main__":
    main("fetch", run)

"""One category of MVTec AD with the split that comes with it.

P. Bergmann, M. Fauser, D. Sattlegger, C. Steger, "MVTec AD: a comprehensive real-world dataset for unsupervised anomaly
detection", CVPR 2019.
"""

from pathlib import Path, PurePosixPath

from edge.errors import UserError
from stages.common.dataset import sha256
from stages.fetch import archive, download, hashes, layout
from stages.fetch.picture import Picture
from stages.fetch.published import unverified

URL = (
    "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/"
    "mvtec_anomaly_detection.tar.xz"
)
FILE = "mvtec_anomaly_detection.tar.xz"
SHA256 = "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d"  # as anomalib checks it
LICENCE = "MVTec AD is licensed CC BY-NC-SA 4.0: not for commercial use (mvtec.com/company/research/datasets/mvtec-ad)"
CATEGORIES = (
    "bottle", "cable", "capsule", "carpet", "grid",
    "hazelnut", "leather", "metal_nut", "pill", "screw", "tile",
    "toothbrush", "transistor", "wood", "zipper",
)  # fmt: skip


def load(data, work: Path) -> list[Picture]:
    """The verified pictures of `data.category`, from the folder or archive at `data.path` or the public archive.

    Without a list in `data.hashes` only the public archive, which has a known hash, is verified; a download from
    another address is marked in the index.
    """
    expected = hashes.read(Path(data.hashes)) if data.hashes else {}
    source = _source(data)
    if source.is_file():
        archive_hash = expected.get(source.name) or (SHA256 if source.name == FILE and not data.url else None)
        if archive_hash and sha256(source) != archive_hash:
            ours = data.path is None
            if ours:
                source.unlink()
            raise UserError(
                f"{source}: its sha256 is not {archive_hash}; "
                + ("removed, run again to download it anew" if ours else "replace the file")
            )
        root = _unpack(source, work, data.category)
    else:
        root = source
    pictures = layout.read(root, data, masks="required")
    prefix = f"{data.category}/"
    inside = {name.removeprefix(prefix): h for name, h in expected.items() if name.startswith(prefix)}
    if inside:
        hashes.verify(root, [file for picture in pictures for file in picture.files], inside)
    elif data.hashes and not (source.is_file() and source.name in expected):
        raise UserError(f"{data.hashes}: lists neither files of {prefix} nor the archive; correct data.hashes")
    elif data.url and data.path is None and not data.hashes:
        pictures = unverified(data.url, source, pictures)
    return pictures


def _source(data) -> Path:
    """The archive, downloaded if need be, or the unpacked folder of the category."""
    if data.path is None:
        if not data.url and data.category not in CATEGORIES:
            raise UserError(
                f"data.category = {data.category!r}: no such category; choose one of {', '.join(CATEGORIES)}"
            )
        print(LICENCE, flush=True)
        return download.fetch(data.url or URL, None if data.url else FILE, listed=not data.url or bool(data.hashes))
    path = archive.existing(data.path)
    name = path.resolve().name
    if path.is_file() or (name == data.category and (path / "train").is_dir()):
        return path
    if (path / "train" / "good").is_dir():
        raise UserError(f"{path}: holds one category, {name}; set data.category to {name} or correct data.path")
    if (path / data.category / "train").is_dir():
        return path / data.category
    found = sorted(p.name for p in path.iterdir() if (p / "train" / "good").is_dir())
    if found:
        raise UserError(f"{path}: has no category {data.category!r}; set data.category to one of {archive.few(found)}")
    for name in (FILE, f"{data.category}.tar.xz"):
        if (path / name).is_file():
            return path / name
    return archive.only_one(path, "mvtec", f"{data.category}/train")


def _unpack(source: Path, work: Path, category: str) -> Path:
    """Unpacks the category alone (it is a small part of 5 GB); UserError naming the others when it isn't there."""
    seen = set()

    def place(parts: tuple[str, ...]) -> PurePosixPath | None:
        for i, part in enumerate(parts[:-2]):
            if parts[i + 1] in ("train", "test", "ground_truth"):
                seen.add(part)
                return PurePosixPath(*parts[i:]) if part == category else None
        return None

    archive.extract(source, work, place)
    if category not in seen:
        there = f"it has {archive.few(seen)}" if seen else "it has no folder <category>/train"
        raise UserError(f"{source}: has no category {category!r}; {there}; correct data.category or data.path")
    return work / category

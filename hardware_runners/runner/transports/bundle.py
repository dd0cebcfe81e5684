"""What goes to a device: folders named by the hash of what is in them, so that nothing is sent twice."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RUNNER = "hardware_runners/runner"
# the modules, not what is in folders below
CODE = ("edge", "edge/inference", "edge/inference/runtimes", f"{RUNNER}/remote", f"{RUNNER}/energy")
FILES = (f"{RUNNER}/__init__.py",)


@dataclass(frozen=True)
class Bundle:
    """`files` maps names inside the folder `name` to their content."""

    name: str
    files: dict[str, bytes]


def code() -> Bundle:
    """`edge` and what measures it."""
    paths = [ROOT / name for name in FILES]
    for folder in CODE:
        paths += (ROOT / folder).glob("*.py")
    return _bundle("code", {str(path.relative_to(ROOT)): path.read_bytes() for path in paths})


def model(folder: str | Path) -> Bundle:
    """A model folder."""
    folder = Path(folder)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return _bundle("model", {str(path.relative_to(folder)): path.read_bytes() for path in paths})


def pictures(files: dict[str, bytes]) -> Bundle:
    """Pictures by their names."""
    return _bundle("pictures", files)


def _bundle(kind: str, files: dict[str, bytes]) -> Bundle:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return Bundle(f"{kind}-{digest.hexdigest()[:20]}", files)


def pack(bundles: list[Bundle]) -> bytes:
    """A tar of the bundles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for bundle in bundles:
            for name, content in sorted(bundle.files.items()):
                entry = tarfile.TarInfo(f"{bundle.name}/{name}")
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()

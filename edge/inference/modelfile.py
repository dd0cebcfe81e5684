"""The deployed model: a folder with the model's files and a `model.json` that lists each of them with its sha256."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edge.errors import ModelError
from edge.inference.fields import Fields
from edge.inference.jsonfile import read_json
from edge.inference.modelinfo import NAME, SCHEMA, ModelInfo, parse

DEEPEST = 16  # folders in each other: no format has more than a few


class HasFiles(Protocol):
    """What is known of a model folder of any task: its files with their sha256."""

    @property
    def files(self) -> dict[str, str]: ...


Info = TypeVar("Info", bound=HasFiles)


def open_model(folder: str | Path) -> ModelInfo:
    """The anomaly model in `folder`, its JSON checked field by field and every file against its sha256; ModelError when
    not."""
    return read_folder(folder, parse)


def read_folder(folder: str | Path, parse: Callable[[Path, Any], Info]) -> Info:
    """As `open_model`, of a task whose model.json `parse` reads."""
    folder = Path(folder)
    path = folder / NAME
    _check_folder(folder)
    try:
        raw = read_json(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: not found; a model folder holds the model file and a model.json") from None
    try:
        found = digests(folder)
    except OSError as error:
        raise ModelError(f"{error.filename}: can't be read: {error.strerror}") from None
    if isinstance(raw, dict) and type(raw.get("schema")) is int and raw["schema"] == 1:
        raw = _from_version_1(folder, raw, found)
    info = parse(folder, raw)
    for name in sorted(info.files.keys() | found):
        if name not in found:
            what = "not a regular file" if os.path.lexists(folder / name) else "not found"
            raise ModelError(f"{folder / name}: {what}, although {path} lists it in 'files'")
        if name not in info.files:
            raise ModelError(f"{folder / name}: not listed in 'files' of {path}; remove it or build the model again")
        if found[name] != info.files[name]:
            raise ModelError(f"{folder / name}: content differs from sha256 in {path}; copy or build the model again")
    return info


def _check_folder(folder: Path) -> None:
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, ValueError):  # ValueError: a character that no name can have
        raise ModelError(f"{folder}: no such model folder") from None
    except OSError as error:
        raise ModelError(f"{folder}: can't be opened: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise ModelError(f"{folder}: not a folder; give the one that holds {NAME}")


def write_model(folder: str | Path, info: dict[str, Any]) -> ModelInfo:
    """Writes `folder/model.json` for the files already there; `schema`, `files` and, where there is none, an
    empty `state` are filled in here."""
    return write_folder(folder, {"state": [], **info}, parse)


def write_folder(folder: str | Path, info: dict[str, Any], parse: Callable[[Path, Any], Info]) -> Info:
    """Writes `folder/model.json` of a task whose model.json `parse` reads; `schema` and `files` are filled in here."""
    folder = Path(folder)
    raw = {**info, "schema": SCHEMA, "files": digests(folder)}
    checked = parse(folder, raw)
    temporary = folder / f".{NAME}.tmp"
    temporary.write_text(json.dumps(raw, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, folder / NAME)
    return checked


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file in the folder but its model.json, by name; ModelError below DEEPEST folders."""
    paths, waiting = [], [(folder, 0)]
    while waiting:
        at, depth = waiting.pop()
        if depth > DEEPEST:
            raise ModelError(f"{folder}: its folders lie too deep in each other")
        for path in at.iterdir():
            if path.is_dir() and not path.is_symlink():
                waiting.append((path, depth + 1))
            elif path.is_file() and path != folder / NAME:
                paths.append(path)
    return {path.relative_to(folder).as_posix(): sha256([path]) for path in sorted(paths)}


def sha256(paths: list[Path]) -> str:
    """The digest of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _from_version_1(folder: Path, raw: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
    """The same model as version 2 says it; version 1 had one digest for the model file and OpenVINO's weights, one
    output, and a score that it did not describe."""
    at = Fields(folder / NAME, raw)
    names = [at.text("file")] + [Path(at.text("file")).stem + ".bin"] * (at.text("format") == "openvino")
    for name in names:
        if name not in found:
            raise ModelError(f"{folder / name}: not found, although {at.path} names it in 'file'")
    if sha256([folder / name for name in names]) != at.text("sha256"):
        raise ModelError(f"{folder / names[0]}: content differs from sha256 in {at.path}; copy or build it again")
    picture = {**at.object("input", Fields.mapping), "frames": 1, "step": 1}
    picture.pop("channels", None)
    outputs = [{**at.object("output", Fields.mapping), "meaning": "map", "channels": 1}]
    if at.object("score", Fields.mapping).get("rule") == "output":
        number = {"height": 1, "width": 1, "channels": 1, "dtype": "float32", "scale": 1.0, "zero_point": 0}
        outputs.append({"name": "score", "meaning": "score", **number})
    kept = {key: value for key, value in raw.items() if key not in ("sha256", "output")}
    return {**kept, "schema": SCHEMA, "files": found, "input": picture, "outputs": outputs, "state": []}

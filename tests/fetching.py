"""Small datasets on disk in the layouts of the sources, and the fetch stage run on them."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import yaml
from conftest import ROOT

from stages.common.dataset import read_index
from stages.fetch import __main__ as stage


def fetch(source, depth=None, **changes):
    """Runs the stage here with the params of the project, some changed (of a section, those keys)."""
    data = yaml.safe_load((ROOT / "params.yaml").read_text())["data"]
    sections = {
        name: SimpleNamespace(**(data[name] | changes.pop(name, {}))) for name in ("synthetic", "synthetic_clips")
    }
    data |= {"source": source} | changes | sections
    stage.run(SimpleNamespace(data=SimpleNamespace(**data), input=SimpleNamespace(depth=depth)))
    return read_index("data/train") + read_index("data/test")


def content(folder="data"):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def picture(path, seed, shape=(20, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8))
    return path


def mask(path, shape=(20, 24), value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = np.zeros(shape, np.uint8)
    marks[2:6, 2:6] = value
    cv2.imwrite(str(path), marks)
    return path


def dataset(root, train=12, good=3, defects=2, masks=True):
    """A small dataset in the layout of MVTec AD."""
    for i in range(train):
        picture(root / f"train/good/{i:03d}.png", i)
    for i in range(good):
        picture(root / f"test/good/{i:03d}.png", 100 + i)
    for k, kind in enumerate(("dent", "hole")):
        for i in range(defects):
            picture(root / f"test/{kind}/{i:03d}.png", 200 + 50 * k + i)
            if masks:
                mask(root / f"ground_truth/{kind}/{i:03d}_mask.png")
    return root


def magnetic(root):
    """A small dataset in the layout of the magnetic tiles, and its list of hashes."""
    for i in range(8):
        picture(root / f"MT_Free/Imgs/exp1_num_{1000 * i}.jpg", i)
        mask(root / f"MT_Free/Imgs/exp1_num_{1000 * i}.png", value=0)
    for k, kind in enumerate(("Blowhole", "Break", "Crack", "Fray", "Uneven")):
        picture(root / f"MT_{kind}/Imgs/exp1_num_{9000 + 1000 * k}.jpg", 50 + k)
        mask(root / f"MT_{kind}/Imgs/exp1_num_{9000 + 1000 * k}.png")
    used = [p for p in sorted(root.rglob("*.*")) if p.suffix == ".jpg" or "MT_Free" not in p.parts]
    return hash_list(root.parent / "list.sha256", root, used)


def hash_list(path, root, files, prefix=""):
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {prefix}{p.relative_to(root).as_posix()}\n" for p in files]
    path.write_text("".join(lines))
    return str(path)

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


def dagm(root, good=6, defects=3):
    """A small class of DAGM 2007; both halves have defects, whose masks are listed in Labels.txt."""
    for half, seed in (("Train", 0), ("Test", 500)):
        lines = ["1"]
        for i in range(good + defects):
            name = f"{i + 1:04d}"
            picture(root / f"Class1/{half}/{name}.PNG", seed + i)
            label = f"{name}_label.PNG" if i < defects else "0"
            if i < defects:
                mask(root / f"Class1/{half}/Label/{label}")
            lines.append(f"{i + 1}\t{int(i < defects)}\t{name}.PNG\t0\t{label}")
        (root / f"Class1/{half}/Label/Labels.txt").write_text("\n".join(lines) + "\n")
    return root


def visa(root, train=8, good=3, defects=3):
    """A small object of VisA beside another one that the split lists too."""
    rows, labels = ["object,split,label,image,mask"], ["image,label,mask"]
    for i in range(train + good):
        name = f"candle/Data/Images/Normal/{i:04d}.JPG"
        picture(root / name, i)
        rows.append(f"candle,{'train' if i < train else 'test'},normal,{name},")
        labels.append(f"{name},normal,")
    for i in range(defects):
        name, marks = f"candle/Data/Images/Anomaly/{i:03d}.JPG", f"candle/Data/Masks/Anomaly/{i:03d}.png"
        picture(root / name, 900 + i)
        mask(root / marks, value=i + 1)
        rows.append(f"candle,test,anomaly,{name},{marks}")
        labels.append(f"{name},{('melted wax', 'chip', 'chip, melted wax')[i % 3]!r},{marks}".replace("'", '"'))
    rows.append("cashew,train,normal,cashew/Data/Images/Normal/000.JPG,")
    (root / "candle/image_anno.csv").write_text("\n".join(labels) + "\n")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows) + "\n")
    return root


def commutators(root, items=5, views=3):
    """A small KolektorSDD: every item has a defect on its first view."""
    for item in range(items):
        for view in range(views):
            place = root / f"kos{item + 1:02d}/Part{view}"
            picture(place.with_suffix(".jpg"), 10 * item + view)
            mask(place.with_name(f"Part{view}_label.bmp"), value=0 if view else 255)
    return root


def surfaces(root, good=6, defects=3):
    """A small KolektorSDD2; both halves have defects."""
    for half, start in (("train", 10000), ("test", 20000)):
        for i in range(good + defects):
            picture(root / f"{half}/{start + i}.png", start + i)
            mask(root / f"{half}/{start + i}_GT.png", value=0 if i < good else 255)
    return root


def btad(root, train=8, good=3, defects=3):
    """Product 03 of BTAD, whose masks have the ending of its pictures, and 01, whose masks have another one."""
    for product, ending in (("01", "png"), ("03", "bmp")):
        for folder, count, seed in (("train/ok", train, 0), ("test/ok", good, 300), ("test/ko", defects, 600)):
            for i in range(count):
                picture(root / f"{product}/{folder}/{i:04d}.bmp", int(product) * 1000 + seed + i)
        for i in range(defects):
            mask(root / f"{product}/ground_truth/ko/{i:04d}.{ending}")
    return root

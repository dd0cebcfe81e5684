"""Samples with axes: a clip of grey frames through every stage, as pictures go."""

import json
import subprocess
from types import SimpleNamespace

import clips
import cv2
import numpy as np
import pytest
import toy
from students import pictures

from edge.errors import UserError
from edge.geometry import Geometry
from edge.preprocess import read_image, resize, to_sample
from stages.common import dataset
from stages.common.dataset import Item, Samples, load_samples, read_index, sha256, write_index
from stages.training.synthetic_defects import add_defect, vary
from stages.training.validation_defects import FAMILIES


def spec(frames: int, step: int = 1, color: str = "grey", size=(32, 32)):
    return SimpleNamespace(geometry=Geometry(*size), color=color, frames=frames, step=step, depth=None)


@pytest.mark.parametrize(("frames", "step"), [(1, 1), (3, 1), (4, 2), (6, 5)])
def test_a_sample_is_the_frames_up_to_now(frames, step, tmp_path):
    """The same frames read one by one; before the first frame of a clip, the first again; never another clip's."""
    clips.write(tmp_path, {"train": 2, "val": 1}, 32)
    items = read_index(tmp_path, "train")
    picked = [items[i] for i in (0, 3, 11, 12, 20)]
    found = load_samples(tmp_path, picked, spec(frames, step))
    assert found.shape == (5, 32, 32, frames) and found.dtype == np.uint8
    for item, sample in zip(picked, found, strict=True):
        for place, back in enumerate(range((frames - 1) * step, -1, -step)):
            path = tmp_path / f"images/{item.clip}/{max(0, item.frame - back):03d}.png"
            np.testing.assert_array_equal(sample[:, :, place], cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def stacked(folder, item, spec, height, width):
    """The sample with every frame read anew at full size, then resized as a whole: how a picture of T channels is."""
    paths = [folder / f"images/{item.clip}/{max(0, item.frame - spec.step * b):03d}.png" for b in range(spec.frames)]
    whole = to_sample([read_image(path) for path in reversed(paths)], "grey")
    return np.stack([resize(whole[:, :, i], height, width) for i in range(spec.frames)], axis=-1)


ORDERS = {
    "as they follow": lambda items: items,
    "every third": lambda items: items[::3],
    "backwards": lambda items: items[::-1],
    "clips in turn": lambda items: sorted(items, key=lambda item: (item.frame, item.clip)),
    "each twice": lambda items: [item for item in items for _ in range(2)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("frames", "step"), [(1, 1), (2, 4), (3, 1), (3, 2), (5, 3)])
def test_shared_frames_change_no_sample(frames, step, order, tmp_path):
    clips.write(tmp_path, {"train": 2, "val": 1}, 48)
    items = ORDERS[order](read_index(tmp_path))
    read = Samples(tmp_path, spec(frames, step, size=(20, 28)))
    for item in items:
        sample, size = read.with_size(item)
        assert sample.flags.c_contiguous and size == (48, 48)
        np.testing.assert_array_equal(sample, stacked(tmp_path, item, spec(frames, step), 20, 28))


@pytest.mark.parametrize(("frames", "step"), [(1, 1), (4, 1), (4, 3)])
def test_each_frame_is_decoded_and_hashed_once(frames, step, tmp_path, monkeypatch):
    """Of items that follow each other; what is kept is no more than a sample spans, of one clip."""
    clips.write(tmp_path, {"train": 3}, 32)
    hashed, decoded = [], []
    monkeypatch.setattr(dataset, "sha256", lambda path: hashed.append(path) or sha256(path))
    monkeypatch.setattr(dataset, "read_image", lambda path, depth: decoded.append(path) or read_image(path, depth))
    items = read_index(tmp_path)
    read = Samples(tmp_path, spec(frames, step))
    for item in items:
        read(item)
        assert len(read._kept) <= (frames - 1) * step + 1
    assert sorted(decoded) == sorted(hashed) == sorted(tmp_path / item.path for item in items)


def test_every_nth_frame_of_a_clip_is_a_sample(tmp_path):
    """Each still made of all frames before it, and pictures stay."""
    clips.write(tmp_path, {"train": 2}, 32)
    items, thin = read_index(tmp_path), spec(3)
    thin.every = 5
    kept = [item for item in items if item.frame in (0, 5, 10)]
    assert dataset.thinned(items, thin) == kept == dataset.thinned(kept, thin)
    whole = load_samples(tmp_path, items, spec(3))
    places = [items.index(item) for item in kept]
    np.testing.assert_array_equal(load_samples(tmp_path, items, thin), whole[places])
    picture = Item("a.png", "train", 0, "good", "", "", "a", frame=3)
    assert dataset.thinned([picture], thin) == [picture]


def test_a_damaged_index_is_one_line(tmp_path):
    clips.write(tmp_path, {"train": 1}, 32)
    whole = (tmp_path / "index.csv").read_text()
    for old, new in (("label", "lable"), (",0,good", ",x,good"), ("sha256", "sha256,more"), ("path,", "")):
        (tmp_path / "index.csv").write_text(whole.replace(old, new, 1))
        with pytest.raises(UserError, match=r"index\.csv: damaged; run dvc repro -f fetch"):
            read_index(tmp_path)


def test_pictures_have_no_frames_before_them(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), pictures(1, 32)[0])
    write_index(tmp_path, [Item("a.png", "train", 0, "good", "", sha256(tmp_path / "a.png"), "a")])
    assert "clip" not in (tmp_path / "index.csv").read_text()  # the index of pictures is as it was
    items = read_index(tmp_path)
    assert load_samples(tmp_path, items, spec(1, color="rgb")).shape == (1, 32, 32, 3)
    assert load_samples(tmp_path, items, spec(1)).shape == (1, 32, 32, 1)
    with pytest.raises(UserError, match=r"a\.png: a picture, but input\.frames = 4; set 1"):
        load_samples(tmp_path, items, spec(4))


@pytest.mark.parametrize("channels", [1, 4, 5, 8])
def test_synthetic_defects_are_the_same_in_every_channel(channels):
    """Of a sample whose channels are all alike (a clip of four frames or more has others: test_video_defects.py)."""
    grey = pictures(4, 64, 1)[:, :, :, :1]
    alike, three = np.repeat(grey, channels, 3), np.repeat(grey, 3, 3)
    for i in range(12):
        (found, mask), (_, wanted) = (
            add_defect(np.random.default_rng([3, i]), vary(np.random.default_rng(i), x[0]), x[1])
            for x in (alike, three)
        )
        assert found.shape[2] == channels and (found == found[..., :1]).all() and np.array_equal(mask, wanted)
    for family in FAMILIES.values():
        found = family(np.random.default_rng(3), alike[0], 60.0)
        assert found.shape[2] == channels and (found == found[..., :1]).all()


@pytest.mark.slow
def test_a_clip_runs_the_whole_chain(tmp_path):
    """The stages themselves, from the index to the page; nothing but the input differs from pictures."""
    changes = {"input__color": "grey", "input__frames": 4, "input__step": 1, "evaluate__aupro_fpr_limit": 0.3}
    folder = toy.make(tmp_path, **changes)
    clips.write(folder / "data/train", {"train": 4, "val": 2}, 64)
    clips.write(folder / "data/test", {"test": 4}, 64, seed=1)
    stages = ["teacher", "distill", "compress"]
    stages += [f"{verb} {v}" for v in toy.VARIANTS for verb in ("compile", "evaluate")]
    stages += [f"benchmark local-{v}" for v in toy.VARIANTS] + ["illustrate", "report"]
    for stage in stages:
        command = ["python", "-m", *f"stages.{stage}".split()]
        done = subprocess.run(command, cwd=folder, env=toy.environment(), capture_output=True, text=True)
        assert done.returncode == 0, f"{stage}: {done.stderr}"
    for variant in toy.VARIANTS:
        info = json.loads((folder / "artifacts/models" / variant / "model.json").read_text())
        assert [info["input"][key] for key in ("color", "frames", "step")] == ["grey", 4, 1]
        found = json.loads((folder / "artifacts/eval" / f"{variant}.json").read_text())
        assert found["images"] == {"good": 24, "defect": 24} and 0 <= found["image_auroc"] <= 1
        bench = json.loads((folder / "artifacts/bench" / f"local-{variant}.json").read_text())
        assert bench["status"] == "ok"
    assert found["fidelity"]["exact"] >= 0.99  # int8 to the bit with four channels as with three
    assert "student-int8" in (folder / "reports/index.html").read_text()

"""Sources of clips: their layouts on small trees, splits by clip, labels of frames and truth of pixels."""

import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import videos
from conftest import one_line
from fetching import content, fetch, mask, picture
from scipy.io import savemat

from edge.errors import UserError
from edge.preprocess import read_mask
from stages.common.dataset import read_index, sha256
from stages.fetch.sources import avenue, synthetic_clips, ucsd

pytestmark = pytest.mark.usefixtures("here")
LABELS = "TestVideoFile = {};\nTestVideoFile{end+1}.gt_frame = [3:5, 8];\nTestVideoFile{end+1}.gt_frame = [1:2];\n"


def clip(folder, count=9, seed=0, suffix=".png", name="{:03d}"):
    for i in range(1, count + 1):
        picture(folder / f"{name.format(i)}{suffix}", 1000 * seed + i)
    return folder


def by_clip(items):
    found = {}
    for item in items:
        found.setdefault(item.clip, []).append(item)
    return found


def pedestrians(root, suffix=".tif"):
    """A small set in the layout of UCSD Ped2, with the files that macOS leaves."""
    for k in (1, 2, 3):
        clip(root / f"Train/Train{k:03d}", seed=k, suffix=suffix)
    for k in (1, 2):
        folder = clip(root / f"Test/Test{k:03d}", seed=10 + k, suffix=suffix)
        (folder / f"._001{suffix}").write_bytes(b"no picture")
        (folder / ".DS_Store").write_bytes(b"x")
    for i in range(1, 10):
        mask(root / f"Test/Test001_gt/{i:03d}.bmp", value=255 if 3 <= i <= 5 else 0)
    (root / "Test/UCSDped2.m").write_text(LABELS)
    (root / "Test/._UCSDped2.m").write_text("no text")
    return root


@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".bmp"])
def test_ucsd_frames_have_labels_and_masks(here, suffix):
    pedestrians(here / "UCSDped2", suffix)
    clips = by_clip(fetch("ucsd", path="UCSDped2", category="ped2"))
    splits = {name: {item.split for item in items} for name, items in clips.items()}
    assert all(len(found) == 1 and (found == {"test"}) == name.startswith("Test") for name, found in splits.items())
    assert sum(items[0].split == "val" for items in clips.values()) == 1 and len(clips) == 5
    for items in clips.values():
        assert [item.frame for item in items] == list(range(9))  # in the index as they follow
    assert [item.label for item in clips["Test001"]] == [0, 0, 1, 1, 1, 0, 0, 1, 0]
    assert [item.label for item in clips["Test002"]] == [1, 1] + [0] * 7
    assert [bool(item.mask) for item in clips["Test001"]] == [item.label == 1 for item in clips["Test001"]]
    assert not any(item.mask for item in clips["Test002"])
    assert read_mask(Path("data/test") / clips["Test001"][2].mask).sum() == 16
    assert {item.defect for items in clips.values() for item in items} == {"good", "anomaly"}


def test_ucsd_is_the_same_from_folder_mirror_and_archive(here, monkeypatch):
    pedestrians(here / "x/UCSD_Anomaly_Dataset.v1p2/UCSDped2")
    pedestrians(here / "x/UCSD_Anomaly_Dataset.v1p2/UCSDped1", ".jpg")
    (here / "mirror").mkdir()
    with tarfile.open("mirror/UCSD_Anomaly_Dataset.tar.gz", "w:gz") as out:
        out.add("x/UCSD_Anomaly_Dataset.v1p2", arcname="UCSD_Anomaly_Dataset.v1p2")
    with pytest.raises(UserError, match="its sha256 is not 2329af"):
        fetch("ucsd", path="mirror", category="ped2")
    monkeypatch.setattr(ucsd, "SHA256", sha256(here / "mirror/UCSD_Anomaly_Dataset.tar.gz"))
    found = []
    for path in ("x/UCSD_Anomaly_Dataset.v1p2", "x/UCSD_Anomaly_Dataset.v1p2/UCSDped2", "x", "mirror"):
        assert len(fetch("ucsd", path=path, category="ped2")) == 45
        found.append(content())
    assert all(one == found[0] for one in found)
    with pytest.raises(UserError, match=r"set data\.category to ped1 or ped2; there is ped1, ped2"):
        fetch("ucsd", path="x", category="bottle")


def test_ucsd_from_another_address_is_marked_unless_a_list_verifies_it(here, monkeypatch, capsys):
    root, asked = pedestrians(here / "x/UCSDped2"), []
    with tarfile.open("mirror.tar.gz", "w:gz") as out:
        out.add("x/UCSDped2", arcname="UCSDped2")

    def download(url, name, listed):
        asked.append(listed)
        return Path("mirror.tar.gz")

    monkeypatch.setattr("stages.fetch.download.fetch", download)
    assert all(item.unverified for item in fetch("ucsd", url="https://example.org/u.tar.gz", category="ped2"))
    assert "UNVERIFIED data: https://example.org/u.tar.gz" in capsys.readouterr().out
    found = fetch("ucsd", path="x", category="ped2")
    files = [f"{root}/{folder}/{item.clip}/{Path(item.path).name}" for item in found for folder in ("Train", "Test")]
    files += [str(path) for path in root.glob("Test/Test001_gt/*") if int(path.stem) in (3, 4, 5, 8)]
    listed = [f"{sha256(Path(f))}  {Path(f).relative_to(root).as_posix()}\n" for f in files if Path(f).exists()]
    Path("list").write_text("".join(listed))
    found = fetch("ucsd", url="http://example.org/u.tar.gz", category="ped2", hashes="list")
    assert not any(item.unverified for item in found) and asked == [False, True]


def broken(root, what):
    if what == "labels":
        (root / "Test/UCSDped2.m").unlink()
    elif what == "interval":
        (root / "Test/UCSDped2.m").write_text(LABELS.replace("3:5", "3:x"))
    elif what == "few":
        (root / "Test/UCSDped2.m").write_text(LABELS.splitlines()[1])
    elif what == "frame":
        (root / "Test/Test001/003.tif").unlink()
    elif what == "number":
        picture(root / "Test/Test001/scene.tif", 1)
    elif what == "twin":
        picture(root / "Train/Train001/001.jpg", 1)
    elif what == "mask":
        mask(root / "Test/Test001_gt/003.bmp", shape=(9, 9))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("labels", r"Test: holds 0 \.m files"),
        ("interval", r"gt_frame = \[3:x, 8\]: not numbers and first:last"),
        ("few", r"Test002: the \.m file says nothing of clip 2, it has 1"),
        ("frame", r"Test001: lacks frame 3, which the \.m file marks"),
        ("number", r"scene\.tif: a frame's name ends in its number"),
        ("twin", r"001\.tif: the same number as 001\.jpg"),
        ("mask", r"003\.bmp: the mask is 9x9 px, its image 003\.tif 24x20 px"),
    ],
)
def test_what_is_wrong_in_a_tree_is_one_line(here, what, message):
    broken(pedestrians(here / "UCSDped2"), what)
    with pytest.raises(UserError, match=message) as caught:
        fetch("ucsd", path="UCSDped2", category="ped2")
    one_line(caught)


@pytest.mark.assets
@pytest.mark.slow
def test_ped2_as_it_is_published(here, assets):
    clips = by_clip(fetch("ucsd", path=str(assets / "data/ucsd_ped2"), category="ped2"))
    train = [items for name, items in clips.items() if name.startswith("Train")]
    assert len(train) == 16 and sum(map(len, train)) == 2550
    tests = {name: items for name, items in clips.items() if name.startswith("Test")}
    first = {name: [i.label for i in items].index(1) + 1 for name, items in tests.items()}
    assert first == {"Test001": 61, "Test003": 1, "Test005": 1, "Test007": 46, "Test009": 1, "Test011": 1}
    assert all(item.mask for items in tests.values() for item in items if item.label)


def test_a_clip_never_straddles_a_split(here):
    """Not even where data.group would part it, or a frame of it is in another clip too."""
    for k in range(6):
        clip(here / f"data/raw/train/good/c{k}", 4, seed=k)
    clip(here / "data/raw/test/good/a", 4, seed=20)
    clip(here / "data/raw/test/run/b", 4, seed=21)
    for group in (None, r"train-c\d/00[12]"):
        clips = by_clip(fetch("clips", group=group, val_fraction=0.3))
        assert all(len({item.split for item in items}) == 1 for items in clips.values())
    Path("data/raw/train/good/c1/004.png").write_bytes(Path("data/raw/train/good/c0/004.png").read_bytes())
    clips = by_clip(fetch("clips", val_fraction=0.3))
    assert clips["train-c0"][0].split == clips["train-c1"][0].split
    assert clips["train-c0"][0].group == clips["train-c1"][0].group


def test_clips_of_your_own(here):
    root = here / "data/raw"
    for k in range(3):
        clip(root / f"train/good/c{k}", 6, seed=k, name="frame_{}")
    videos.write(root / "train/good/line.avi", [10, 60, 120, 200])
    clip(root / "test/good/calm", 11, seed=30, name="{}")
    clip(root / "test/run/dog", 5, seed=31)
    clip(root / "test/run/cat", 5, seed=32)
    mask(root / "ground_truth/run/dog/2.png")
    clips = by_clip(fetch("clips"))
    assert [item.label for item in clips["run-dog"]] == [1] * 5  # without labels.csv all frames
    assert [bool(item.mask) for item in clips["run-dog"]] == [False, True, False, False, False]
    assert {item.defect for item in clips["run-dog"]} == {"run"} and not any(i.label for i in clips["good-calm"])
    assert [Path(item.path).stem for item in clips["good-calm"]] == [str(i) for i in range(1, 12)]  # 10 after 9
    levels = [cv2.imread(f"data/train/{item.path}").mean() for item in clips["train-line"]]
    assert np.abs(np.array(levels) - [10, 60, 120, 200]).max() < 3
    (root / "labels.csv").write_text("clip,first,last\ndog,2,3\ndog,5,5\ncat,,\n")
    clips = by_clip(fetch("clips"))
    assert [item.label for item in clips["run-dog"]] == [0, 1, 1, 0, 1]
    assert not any(item.label for item in clips["run-cat"])
    for text, message in (
        ("clip,first,last\ncow,1,2\n", "there is no test clip cow"),
        ("clip,first,last\ndog,2,9\n", "frame 6 is marked, but it has 5"),
        ("clip,first,last\ndog,3,2\n", r"labels\.csv:2: frames 3 to 2"),
        ("clip,first\ndog,3\n", r"labels\.csv:2: not a clip and two numbers"),
    ):
        (root / "labels.csv").write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            fetch("clips")
        one_line(caught)


def test_avenue_in_its_layout(here, monkeypatch):
    root = here / "Avenue Dataset"
    for k in (1, 2, 3):
        (root / "training_videos").mkdir(parents=True, exist_ok=True)
        videos.write(root / f"training_videos/{k:02d}.avi", [10 * k + i for i in range(6)])
    (root / "testing_videos").mkdir()
    videos.write(root / "testing_videos/01.avi", range(0, 250, 50))
    (here / "truth/testing_label_mask").mkdir(parents=True)
    cells = np.empty((1, 5), object)
    for i in range(5):
        cells[0, i] = np.zeros((48, 64), np.uint8)
    cells[0, 3][4:8, 2:9] = 1
    savemat(here / "truth/testing_label_mask/1_label.mat", {"volLabel": cells})
    (here / "mirror").mkdir()
    for name, source in (("Avenue_Dataset.zip", root), ("ground_truth_demo.zip", here / "truth")):
        with zipfile.ZipFile(here / "mirror" / name, "w") as out:
            for file in sorted(source.rglob("*.*")):
                out.write(file, f"{source.name}/{file.relative_to(source)}")
    monkeypatch.setattr(avenue, "FILES", {name: sha256(here / "mirror" / name) for name in avenue.FILES})
    clips = by_clip(fetch("avenue", path="mirror"))
    assert [item.label for item in clips["test-01"]] == [0, 0, 0, 1, 0]
    marked = clips["test-01"][3]
    assert np.array_equal(read_mask(Path("data/test") / marked.mask), cells[0, 3] > 0)
    assert sorted(clips) == ["test-01", "train-01", "train-02", "train-03"]
    first = content()
    (root / "testing_label_mask").symlink_to(here / "truth/testing_label_mask")
    fetch("avenue", path=str(root))
    assert content() == first
    savemat(here / "truth/testing_label_mask/1_label.mat", {"volLabel": cells[:, :4]})
    for path, message in (
        (str(root), "4 masks for the 5 frames of clip 01"),
        ("truth", "Avenue_Dataset.zip: not found"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            fetch("avenue", path=path)
        one_line(caught)
    (here / "truth/testing_label_mask/1_label.mat").write_bytes(b"MATLAB 5.0" * 40)
    with pytest.raises(UserError, match=r"1_label\.mat: not a file of masks"):
        fetch("avenue", path=str(root))
    with pytest.raises(UserError, match=r"data\.url: avenue has two archives, .*; data\.path takes a folder with both"):
        fetch("avenue", url="https://example.org/Avenue_Dataset.zip")


def test_shanghaitech_in_its_layout(here):
    root = here / "shanghaitech"
    for k in (1, 2, 3):
        clip(root / f"training/frames/01_{k:03d}", 4, seed=k)
    clip(root / "testing/frames/01_0014", 5, seed=9, name="{:03d}", suffix=".jpg")
    for name in ("test_frame_mask", "test_pixel_mask"):
        (root / "testing" / name).mkdir()
    pixels = np.zeros((5, 20, 24), np.uint8)
    pixels[2, 3:6, 4:9] = 1
    np.save(root / "testing/test_frame_mask/01_0014.npy", np.array([0, 0, 1, 1, 0], np.int8))
    np.save(root / "testing/test_pixel_mask/01_0014.npy", pixels)
    clips = by_clip(fetch("shanghaitech", path="shanghaitech"))
    assert [item.label for item in clips["test-01_0014"]] == [0, 0, 1, 1, 0]
    assert [bool(item.mask) for item in clips["test-01_0014"]] == [False, False, True, False, False]
    with pytest.raises(UserError, match="has no public address"):
        fetch("shanghaitech")
    np.save(root / "testing/test_frame_mask/01_0014.npy", np.array([{}] * 5, object), allow_pickle=True)
    with pytest.raises(UserError, match=r"01_0014\.npy: not an array of numpy"):
        fetch("shanghaitech", path="shanghaitech")


def test_synthetic_clips_depend_on_the_seed_alone(here):
    counts = {"train": 3, "test_good": 1, "test_per_anomaly": 1, "frames": 24}

    def run(seed):
        fetch("synthetic_clips", seed=seed, synthetic={"size": 48}, synthetic_clips=counts)
        return content()

    first = run(0)
    assert run(0) == first and run(1) != first
    items = read_index("data/test")
    kinds = {item.clip.rpartition("_")[0]: item.defect for item in items if item.label}
    assert kinds == {"against": "against", "fast": "fast", "object": "object"}
    assert all(bool(item.mask) == bool(item.label) for item in items)
    for frames in by_clip(items).values():
        assert [item.frame for item in frames] == list(range(24)) and not frames[0].label  # it begins as normal


@pytest.mark.parametrize("kind", synthetic_clips.KINDS)
def test_what_moves_oddly_in_a_synthetic_clip_is_the_mask(kind):
    """The middle of the mask moves as the kind says; the walkers' own speed is that of the module."""
    for index in range(3):
        frames = list(synthetic_clips.draw(96, kind, index, 5, 40))
        masks = [mask for _, mask in frames]
        if kind in ("train", "good"):
            assert not any(mask.any() for mask in masks)
            continue
        # whole and inside, so that the border cuts nothing off
        middles = [np.flatnonzero(m.any(0)).mean() for m in masks if m.any() and not m[:, [0, -1]].any()]
        speed = (middles[-1] - middles[0]) / (len(middles) - 1) / 96
        low, high = synthetic_clips.SPEED
        fast = synthetic_clips.FAST
        least, most = {"fast": (low * fast[0], high * fast[1]), "against": (-high, -low), "object": (low, high)}[kind]
        assert least - 0.002 <= speed <= most + 0.002, (kind, index, speed)

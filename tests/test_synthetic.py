"""The default dataset: the same everywhere, masks that tell the truth, too hard for a naive baseline."""

import hashlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from sklearn.metrics import roc_auc_score

from edge.preprocess import read_image
from stages.fetch.picture import verify_whole
from stages.fetch.sources import synthetic


def settings(**changes):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["data"]
    values["synthetic"] = SimpleNamespace(**(values["synthetic"] | changes))
    return SimpleNamespace(**values)


def test_every_image_depends_on_seed_kind_and_index_alone():
    image, clean, mask = synthetic.draw((64, 64), "scratch", 3, 5)
    again = synthetic.draw((64, 64), "scratch", 3, 5)
    assert all(np.array_equal(a, b) for a, b in zip((image, clean, mask), again, strict=True))
    for other in (("scratch", 3, 6), ("scratch", 4, 5), ("stain", 3, 5)):
        assert not np.array_equal(image, synthetic.draw((64, 64), *other)[0])


def test_files_are_the_same_in_every_run(tmp_path):
    def files(work):
        pictures = synthetic.load(settings(size=48, train=5, test_good=2, test_per_defect=2), work)
        return {p.name: hashlib.sha256(p.file.read_bytes()).hexdigest() for p in pictures}

    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert len(first) == len(set(first.values())) == 5 + 2 + 2 * len(synthetic.DEFECTS)


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("kind", synthetic.DEFECTS)
def test_mask_holds_exactly_the_changed_texture(size, kind):
    for index in range(5):
        image, clean, mask = synthetic.draw((size, size), kind, index, 0)
        changed = image != clean
        assert not (changed & ~mask).any()
        assert changed[mask].mean() > 0.6
        assert np.abs(image.astype(int) - clean)[mask].mean() > 6  # well above the grain of 2
        assert 0.003 < mask.mean() < 0.1


def test_good_images_have_no_defect():
    image, clean, mask = synthetic.draw((64, 64), "good", 0, 0)
    assert np.array_equal(image, clean) and not mask.any()


def test_distance_to_the_mean_image_does_not_find_the_defects():
    data = settings()
    size, seed = data.synthetic.size, data.seed

    def images(kind, count):
        return np.array([synthetic.draw((size, size), kind, i, seed)[0] for i in range(count)], float)

    train = images("train", data.synthetic.train)
    good = images("good", data.synthetic.test_good)
    defects = np.concatenate([images(kind, data.synthetic.test_per_defect) for kind in synthetic.DEFECTS])
    test, labels = np.concatenate([good, defects]), np.r_[np.zeros(len(good)), np.ones(len(defects))]
    baselines = {}
    for name, prepare in {
        "as it is": lambda x: x,
        "without brightness": lambda x: x - x.mean((1, 2), keepdims=True),
        "normalised": lambda x: (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True),
    }.items():
        away = np.abs(prepare(test) - prepare(train).mean(0))
        baselines[f"L2, {name}"] = roc_auc_score(labels, np.sqrt((away**2).mean((1, 2))))
        baselines[f"max, {name}"] = roc_auc_score(labels, away.max((1, 2)))
    print({name: round(value, 3) for name, value in baselines.items()})
    assert max(baselines.values()) < 0.7, baselines


@pytest.mark.slow
def test_a_local_texture_detector_finds_the_defects():
    """Nearest neighbours of locally averaged gradients: far simpler than PatchCore, and already good."""

    def describe(image):
        field = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 8)
        field /= np.sqrt(cv2.GaussianBlur(field**2, (0, 0), 16)) + 1e-3
        responses = []
        for wave in (6, 10, 16):
            for turn in range(8):
                pair = [
                    cv2.filter2D(field, -1, cv2.getGaborKernel((25, 25), wave / 2.2, np.pi * turn / 8, wave, 1, phase))
                    for phase in (0, np.pi / 2)
                ]
                responses.append(cv2.blur(np.hypot(*pair), (9, 9)))
        return np.stack(responses, -1)[8:-8:4, 8:-8:4].reshape(-1, len(responses))

    bank = np.concatenate([describe(synthetic.draw((128, 128), "train", i, 0)[0]) for i in range(30)])
    mean, std = bank.mean(0), bank.std(0)
    bank = ((bank - mean) / std)[::5]
    labels, scores = [], []
    for kind in ("good", *synthetic.DEFECTS):
        for index in range(20 if kind == "good" else 8):
            rows = (describe(synthetic.draw((128, 128), kind, index, 0)[0]) - mean) / std
            distances = (rows**2).sum(1)[:, None] + (bank**2).sum(1)[None] - 2 * rows @ bank.T
            labels.append(kind != "good")
            scores.append(distances.min(1).max())
    print("local texture", roc_auc_score(labels, scores))
    assert roc_auc_score(labels, scores) > 0.9


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (300, 300)])
def test_png_without_compression_reads_back(tmp_path, shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    synthetic.write_png(tmp_path / "a.png", grey)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), grey)
    verify_whole(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 1], grey)

"""What fit makes of a student: its start, what training may change, and which of the two is kept."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from students import pictures
from test_targets import Teacher
from test_trunks import TINY, filled, written

from edge.errors import UserError
from stages.detectors import memory_bank, score_fusion, student, student_init, student_training
from stages.detectors.base import Run
from stages.detectors.imitation import Imitation
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.student import Student
from stages.detectors.student_init import new_student
from stages.detectors.student_network import EMBEDDING, SOURCES, taps
from stages.graph.tensors import to_tensor
from stages.training import checkpoint, loop
from stages.training.validation_defects import FAMILIES, validation_defects

torch.set_num_threads(1)
TRAIN, VAL = pictures(10, 64, 1), pictures(9, 64, 2)
SETTINGS = {"width": 0.25, "bank": 64, "poses": "none", "train_trunk": False, "images": 16, "epochs": 1}
SETTINGS |= {"batch": 8, "lr": 0.002, "feature_weight": 1.0, "mask_weight": 0.3}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Checkpoints of a training stay in the test's folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@pytest.fixture
def tiny(tmp_path) -> str:
    return str(written(filled(TINY), tmp_path / "tiny"))


def fit(seed: int = 0, source=None, **changes) -> Student:
    settings = SimpleNamespace(**(SETTINGS | changes))
    return Student.fit(TRAIN, VAL, settings, Run(seed, "distill", lambda *_, **__: None, source))


def said(monkeypatch, *means: float) -> list:
    """Has validation say these AUROCs, of the start and of the trained student; the list gets the parts it saw."""
    seen, left = [], list(means)

    def choose(good, defects):
        seen.append((set(good), set(defects), len(good["deep"]), {len(parts["deep"]) for parts in defects.values()}))
        weight = 1 / len(good)
        return dict.fromkeys(good, weight), {"spot": left[0], "mean": left.pop(0)}

    monkeypatch.setattr(score_fusion, "choose_weights", choose)
    return seen


@pytest.mark.parametrize(
    ("start", "trained", "kept"),
    [(0.7, 0.8, "trained"), (0.7, 0.7, "trained"), (0.76, 0.75, "trained"), (0.8, 0.7, "start"), (0.76, 0.73, "start")],
)
def test_a_start_that_is_clearly_better_is_kept(tiny, monkeypatch, capsys, start, trained, kept):
    seen = said(monkeypatch, start, trained)
    found = fit(init=tiny, width=1.0)
    masked = kept == "trained"
    assert ("mask" in found.network.ops) == masked and found.network.heads == ["score"]
    assert set(found.record["fusion"]) == {"fine", "deep", "mask"} - (set() if masked else {"mask"})
    values = {name: {"spot": value, "mean": value} for name, value in (("start", start), ("trained", trained))}
    assert found.record["validation"] == {**values, "kept": kept}
    assert "mask" not in found.start.network.ops and found.start.record["validation"] == values["start"]
    if not masked:
        assert torch.equal(found.maps(VAL), found.start.maps(VAL))
    out = capsys.readouterr().out
    assert f"AUROC of the start on validation defects {start:.3f}" in out
    assert f"of the trained one {trained:.3f}; the student is the {kept} one" in out
    parts = [part[0] for part in seen]
    assert parts == [{"fine", "deep"}, {"fine", "deep", "mask"}]
    assert all(families == set(FAMILIES) and count == 5 for _, families, count, _ in seen), "every second of 9 pictures"


@pytest.mark.parametrize("init", ["scratch", "tiny"])
def test_without_epochs_the_student_is_its_start(init, tiny, monkeypatch):
    monkeypatch.setattr(student_training, "minimise", None)  # nothing is trained
    found = fit(init=tiny if init == "tiny" else init, epochs=0, width=1.0)
    assert "mask" not in found.network.ops and set(found.record) == {"fusion", "validation"}
    assert found.network is found.start.network and set(found.record["validation"]) == {"start", "kept"}
    assert torch.isfinite(found.maps(VAL)).all()


def test_the_record_of_validation_is_what_the_maps_say(tiny):
    """The AUROC of the start, from the maps that it gives, on the pictures of `val` that compile does not judge by.

    The others are their copies: all of `val` brings the parts of the deployed map to one scale.
    """
    val = np.repeat(VAL, 2, axis=0)
    run = Run(0, "distill", lambda *_, **__: None)
    found = Student.fit(TRAIN, val, SimpleNamespace(**SETTINGS | {"init": tiny, "epochs": 0, "width": 1.0}), run)

    def scores(samples):
        maps = torch.nn.functional.pad(found.maps(samples).unsqueeze(1), (1,) * 4, mode="replicate")
        return torch.nn.functional.avg_pool2d(maps, 3, 1).amax((1, 2, 3)).numpy()

    good, aurocs = scores(VAL), found.record["validation"]["start"]
    for name, samples in validation_defects(VAL, 0).items():
        bad = scores(samples)
        expected = roc_auc_score([0] * len(good) + [1] * len(bad), np.concatenate([good, bad]))
        assert aurocs[name] == pytest.approx(expected, abs=0.006), name  # 2 of 360 pairs: sums in another order
    assert aurocs["mean"] == pytest.approx(np.mean([aurocs[name] for name in FAMILIES]))


def test_patch_embeddings_start_as_principal_components_of_the_trunk(tiny):
    body = new_student(tiny, 1.0, to_tensor(TRAIN))
    student_init.project(body, TRAIN)
    with torch.inference_mode():
        values = body.activations(to_tensor(TRAIN))
    for source in SOURCES:
        features, found = (
            values[f"{kind}_{source}"].permute(0, 2, 3, 1).flatten(0, 2).double() for kind in ("pool", "embed")
        )
        kept = min(EMBEDDING, features.shape[1])
        components = PCA(kept).fit_transform(features.numpy())
        deviation = components.std(0)
        expected = components / deviation**0.5 / deviation.mean() ** 0.5
        strong = deviation > 1e-2 * deviation[0]  # what float32 resolves
        np.testing.assert_allclose(np.abs(found[:, :kept].numpy())[:, strong], np.abs(expected)[:, strong], atol=5e-3)
        assert not found[:, kept:].any()


def frozen(body) -> dict[str, torch.Tensor]:
    trunk = memory_bank.part(body, set(taps(body).values()))
    heads = {f"{kind}_{source}" for kind in ("pool", "embed") for source in SOURCES}
    return {k: v.clone() for k, v in body.state_dict().items() if k.split(".")[1] in trunk.ops.keys() | heads}


def prepared(init: str, width: float):
    """A body as fit trains it, a pool of pictures and their areas."""
    body = new_student(init, width, to_tensor(TRAIN))
    student_init.project(body, TRAIN)
    areas = torch.zeros(len(TRAIN), 1, 8, 8)
    areas[::2, :, 2:5, 3:6] = 1
    return body, areas


@pytest.mark.parametrize("seed", [0, 2**24, 2**32 - 1])
def test_training_the_head_leaves_trunk_and_embeddings_as_they_are(tiny, seed):
    """Statistics of batch norm included, also between the features that the head takes."""
    body, areas = prepared(tiny, 1.0)
    before, mask = frozen(body), body.ops["mask"].conv.weight.clone()
    assert any("b4" in name and name.endswith("running_mean") for name in before)
    settings = SimpleNamespace(**SETTINGS | {"epochs": 2})
    student_training.train_head(body, TRAIN, areas, settings, Run(seed, "distill", lambda *_, **__: None))
    for name, value in frozen(body).items():
        assert torch.equal(value, before[name]), name
    assert not torch.equal(body.ops["mask"].conv.weight, mask) and not body.training
    assert all(parameter.requires_grad for parameter in body.parameters())


def test_half_of_the_features_that_the_head_learns_from_are_rounded_to_int8(tiny, monkeypatch):
    """Those of the int8 trunk have at most 256 values for all channels; the others are the float trunk's."""
    body, _ = prepared(tiny, 1.0)
    samples = np.concatenate([pictures(16, 64, seed) for seed in (4, 5)])
    seen: list = []
    monkeypatch.setattr(student_training, "minimise", lambda model, loss, data, *_: seen.extend(data))
    run = Run(0, "distill", lambda *_, **__: None)
    student_training.train_head(body, samples, torch.zeros(32, 1, 8, 8), SimpleNamespace(**SETTINGS), run)
    with torch.inference_mode():
        values = body.activations(to_tensor(samples))
    for features, name in zip(seen, taps(body).values(), strict=False):
        torch.testing.assert_close(features[:16], values[name][:16])
        assert len(features[16:].unique()) <= 256 < len(features[:16].unique())
        assert np.corrcoef(features[16:].flatten(), values[name][16:].flatten())[0, 1] > 0.9


def test_the_head_learns_to_find_what_was_pasted(tiny):
    """Bright squares in the pictures themselves; features are computed once, so that fifty passes take seconds."""
    body, areas = prepared(tiny, 1.0)
    samples = TRAIN.copy()
    samples[::2, 16:40, 24:48] = 250
    losses: list[float] = []
    run = Run(0, "distill", lambda step, **values: losses.extend(values.values()))
    student_training.train_head(body, samples, areas, SimpleNamespace(**SETTINGS | {"epochs": 50, "lr": 0.01}), run)
    with torch.inference_mode():
        mask = body.activations(to_tensor(samples))["mask"]
    assert roc_auc_score(areas.flatten(), mask.flatten()) > 0.95 and np.mean(losses[-5:]) < 0.6 * losses[0]


@pytest.mark.parametrize(("init", "train_trunk"), [("scratch", False), ("tiny", True)])
def test_a_trunk_that_is_trained_learns_the_embeddings_of_its_teacher(tiny, init, train_trunk, monkeypatch):
    """`scratch` always; a pretrained one where it is asked for. Both sources come closer to the teacher's."""
    asked = []
    monkeypatch.setattr(student, "train_head", lambda *_: asked.append("head"))
    whole = student.train_all
    monkeypatch.setattr(student, "train_all", lambda *given: asked.append("all") or whole(*given))
    losses: list[float] = []
    settings = SimpleNamespace(**SETTINGS | {"init": tiny if init == "tiny" else init, "train_trunk": train_trunk})
    settings.width, settings.epochs, settings.mask_weight, settings.lr = 1.0 if init == "tiny" else 0.25, 12, 0.0, 0.005
    run = Run(0, "distill", lambda step, **values: losses.extend(values.values()), Teacher(40))
    Student.fit(TRAIN, VAL, settings, run)
    assert asked == ["all"] and np.mean(losses[-3:]) < 0.8 * losses[0]


def test_a_pretrained_trunk_needs_no_teacher(tiny, monkeypatch):
    monkeypatch.setattr(student, "train_all", None)
    found = fit(init=tiny, width=1.0, source=None)
    assert {"start", "trained", "kept"} == set(found.record["validation"])


def test_noise_reaches_the_mask_alone_and_differs_between_batches(tiny, monkeypatch):
    """The teacher's embeddings are learned from features without noise; no two batches have the same."""
    seeds = []
    original = student_training.noisy

    def noted(features, spread, areas, seed):
        seeds.append(seed)
        return original(features, spread, areas, seed)

    monkeypatch.setattr(student_training, "noisy", noted)
    fit(init="scratch", source=Teacher(40), epochs=3)
    assert len(seeds) == 6 == len(set(seeds)) and all(0 <= seed < 2**63 for seed in seeds)


def test_a_training_that_was_killed_ends_as_if_it_had_not_been(tiny, monkeypatch):
    class Cut(Exception):
        pass

    torch.manual_seed(0)
    whole = fit(init=tiny, width=1.0, epochs=3)
    checkpoint.clear("distill")
    saves = []
    original = loop._save

    def save(*given):
        original(*given)
        saves.append(1)
        if len(saves) == 2:
            raise Cut

    monkeypatch.setattr(loop, "_save", save)
    torch.manual_seed(0)
    with pytest.raises(Cut):
        fit(init=tiny, width=1.0, epochs=3)
    monkeypatch.setattr(loop, "_save", original)
    torch.manual_seed(0)
    again = fit(init=tiny, width=1.0, epochs=3)
    assert torch.equal(again.maps(VAL), whole.maps(VAL)) and again.record == whole.record


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_frames_are_fitted_too(tiny, channels):
    frames = [np.repeat(samples[..., :1], channels, axis=3) for samples in (TRAIN, VAL)]
    settings = SimpleNamespace(**SETTINGS | {"init": tiny, "width": 1.0})
    found = Student.fit(*frames, settings, Run(0, "distill", lambda *_, **__: None))
    assert found.network.channels == channels and torch.isfinite(found.maps(frames[1])).all()


def test_a_single_validation_picture_is_too_few(tiny):
    with pytest.raises(UserError, match=r"^val: 1 pictures; at least 2"):
        Student.fit(TRAIN, VAL[:1], SimpleNamespace(**SETTINGS), Run(0, "distill", lambda *_, **__: None))


def clips(count: int, seed: int) -> np.ndarray:
    """Grey clips uint8 [count, 64, 64, 4]: smooth noise that drifts to the right by two pixels a frame."""
    wide = pictures(count, 80, seed)[:, :64, :, :1]
    return np.concatenate([wide[:, :, 2 * (3 - t) : 64 + 2 * (3 - t)] for t in range(4)], axis=3)


def test_the_map_of_a_trained_student_of_clips_is_the_mask_alone(tiny, monkeypatch):
    """On the scale of good validation clips, without memory banks; so are its pruned and its int8 form."""
    monkeypatch.setattr(student, "validation_defects", lambda samples, seed: {"hurry": samples[:, ::-1].copy()})
    seen = []

    def choose(good, defects):
        seen.append(set(good))
        masked = "mask" in good
        return dict.fromkeys(good, 1 / len(good)), {"hurry": 0.1 + masked, "mean": 0.1 + masked}

    monkeypatch.setattr(score_fusion, "choose_weights", choose)
    train, val = clips(10, 1), clips(8, 2)
    settings = SimpleNamespace(**SETTINGS | {"init": tiny, "width": 1.0})
    found = Student.fit(train, val, settings, Run(0, "distill", lambda *_, **__: None))
    assert seen == [{"fine", "deep"}, {"mask"}] and found.record["fusion"].keys() == {"mask"}
    assert found.network.heads == ["mask"] and found.embed(to_tensor(val)) is None
    assert not any(name.startswith(("embed_", "bank_", "pool_")) for name in found.network.ops)
    scores = found.maps(val)
    level = score_fusion.image_scores(scores.unsqueeze(1), scores.shape[-2:])
    assert float(scores.mean()) == pytest.approx(0, abs=1e-4) and float(level.median()) == pytest.approx(1, abs=1e-3)
    compress = SimpleNamespace(images=16, batch=8, qat_epochs=0, finetune_epochs=1, prune_ratio=0.2, lr=0.001)
    imitation = Imitation(train, val, compress, Run(0, "compress", lambda *_, **__: None, found))
    int8 = QuantizedStudent.of(found, train, val, 0, imitation)
    assert int8.quantized.network.heads == ["mask"]
    assert float((int8.maps(val) - scores).std()) < 0.2 * float(scores.std())
    pruned = imitation.pruned()
    network, fusion = found.with_own_banks(pruned, pruned, train, val, 0)
    assert network.heads == ["mask"] and fusion.keys() == {"mask"}
    assert network.cost(64, 64)["macs"] < found.network.cost(64, 64)["macs"]

"""Which poses training pictures show: against what was drawn, and against other computations of the same figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from students import pictures
from test_trunks import TINY, filled, written

from stages.detectors import memory_bank, poses
from stages.detectors.base import Run
from stages.detectors.imitation import Imitation
from stages.detectors.quantized_student import QuantizedStudent
from stages.detectors.student import Student
from stages.detectors.student_init import new_student, project
from stages.graph.tensors import to_tensor

torch.set_num_threads(1)
QUARTERS = {"turned by 90", "turned by 180", "turned by 270"}
RUN = Run(0, "distill", lambda *_, **__: None)


def test_the_table_moves_pixels_as_its_names_say():
    sample = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    (a, b), (c, d) = sample
    expected = {
        "mirrored": [[b, a], [d, c]],
        "upside down": [[c, d], [a, b]],
        "turned by 180": [[d, c], [b, a]],
        "turned by 90": [[b, d], [a, c]],
        "turned by 270": [[c, a], [d, b]],
    }
    assert expected.keys() | {"turned by any angle"} == poses.TABLE.keys()
    for name, wanted in expected.items():
        assert np.array_equal(poses.transformed(name, sample[None], 0)[0], wanted), name


def test_a_turn_keeps_the_centre_and_repeats_the_border():
    """A disc on a plain ground turns into itself; a spot beside its centre keeps its distance to that."""
    y, x = np.mgrid[:33, :33] - 16
    plain = np.full((33, 33, 1), 50, np.uint8)
    plain[y**2 + x**2 < 100] = 90
    spot = plain.copy()
    spot[(y**2 + (x - 8) ** 2) < 4] = 250
    assert np.abs(poses.transformed("turned by any angle", plain[None], 0).astype(int)[0] - plain).mean() < 1
    angles = []
    for found in poses.transformed("turned by any angle", np.stack([spot] * 8), 0):
        bright = found[..., 0] > 170
        centre = x[bright].mean(), y[bright].mean()
        assert np.hypot(*centre) == pytest.approx(8, abs=0.7) and (found[0] == 50).all()
        angles.append(np.arctan2(*centre))
    assert np.ptp(angles) > 2, "each has its own angle"


def test_separation_is_the_auroc_and_its_error_that_of_a_bootstrap_over_pictures():
    rng = np.random.default_rng(0)
    before = rng.normal(size=80)
    after = before * 0.7 + rng.normal(size=80) * 0.7 + 0.3
    auroc, error = poses.separation(before, after)
    labels = np.repeat([0, 1], 80)
    assert auroc == pytest.approx(roc_auc_score(labels, np.r_[before, after]))
    drawn = [rng.integers(0, 80, 80) for _ in range(1000)]
    assert error == pytest.approx(np.std([roc_auc_score(labels, np.r_[before[i], after[i]]) for i in drawn]), rel=0.1)
    assert poses.separation(before, before) == pytest.approx((0.5, 0), abs=1e-12)


@pytest.mark.parametrize(
    ("auroc", "error", "expected"), [(0.5, 0.05, True), (0.5, 0.07, False), (0.57, 0.03, False), (0.43, 0.03, False)]
)
def test_a_pose_is_shown_where_the_whole_interval_is_near_to_chance(auroc, error, expected):
    """1.645 standard errors to both sides, within 0.4 and 0.6: too few pictures show nothing."""
    assert poses.verdict(auroc, error)["shown"] is expected


def ramps(count: int, sides: int) -> np.ndarray:
    """Noisy ramps to the right and, flatter and wider, downwards, uint8 [count, 64, 64, 3]; turned by 0 to
    `sides` - 1 quarters, equally often."""
    y, x = np.mgrid[:64, :64]
    pattern = np.uint8(110 * (x % 16 / 16) + 60 * (y % 24 / 24))[..., None]
    quarters = np.random.default_rng(0).permutation(np.arange(count) % sides)
    return np.stack([np.rot90(s // 3 + pattern, k) for s, k in zip(pictures(count, 64), quarters, strict=True)])


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> str:
    return str(written(filled(TINY), tmp_path_factory.mktemp("trunk") / "tiny"))


def asked(init: str, train: np.ndarray) -> dict:
    torch.manual_seed(0)
    body = new_student(init, 1.0, to_tensor(train[:32]))
    project(body, train)
    before = {name: value.clone() for name, value in body.state_dict().items()}
    found = poses.shown(body, train, RUN)
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    return found


def test_pictures_in_one_pose_show_none_and_stay_as_they_are(init, capsys):
    train = ramps(100, 1)
    found = asked(init, train)
    assert found.keys() == poses.TABLE.keys() and not any(values["shown"] for values in found.values())
    assert all(values["auroc"] > 0.8 for values in found.values())
    assert poses.joined(train, {"poses": found}, 0) is train and poses.joined(train, {}, 0) is train
    assert "distill: poses that the training pictures show beside their own: none" in capsys.readouterr().out


def test_pictures_turned_by_quarters_show_quarter_turns(init, capsys, monkeypatch):
    """And no mirrored ones, nor any angle. Enough are held out that chance is no cause to miss one."""
    monkeypatch.setattr(poses, "HELD", 300)
    found = asked(init, ramps(450, 4))
    assert {name for name, values in found.items() if values["shown"]} == QUARTERS
    assert "beside their own: turned by 180, turned by 90, turned by 270\n" in capsys.readouterr().out


def test_few_pictures_show_nothing(init):
    assert asked(init, ramps(19, 4)) == {}


def test_oblong_pictures_are_not_turned_by_quarters(init):
    found = asked(init, ramps(24, 1)[:, :32])
    assert found.keys() == poses.TABLE.keys() - {"turned by 90", "turned by 270"}


def test_copies_follow_the_pictures_in_each_pose_in_turn():
    train = pictures(5, 32)
    names = ("mirrored", "turned by 180")
    record = {"poses": {name: {"shown": name in names} for name in poses.TABLE}}
    found = poses.joined(train, record, 0)
    assert len(found) == 20 and np.array_equal(found[:5], train)
    for i, copy in enumerate(found[5:]):
        wanted = train[i % 5][:, ::-1] if (i % 5 + i // 5) % 2 == 0 else train[i % 5][::-1, ::-1]
        assert np.array_equal(copy, wanted), i


def test_copies_are_bounded(monkeypatch):
    monkeypatch.setattr(poses, "MOST", 7)
    assert len(poses.joined(pictures(5, 32), {"poses": {"mirrored": {"shown": True}}}, 0)) == 12


def student(init: str, poses: str, train: np.ndarray) -> Student:
    settings = vars(Student.example()[0]) | {"init": init, "width": 1.0, "epochs": 0, "poses": poses}
    return Student.fit(train, pictures(9, 64, 2), SimpleNamespace(**settings), RUN)


def test_a_student_that_finds_none_is_the_same_to_the_bit_and_says_so(init):
    train = ramps(24, 1)
    plain, asked = (student(init, poses, train) for poses in ("none", "shown"))
    states = plain.network.state_dict(), asked.network.state_dict()
    assert states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )
    assert "poses" not in plain.record and asked.record.pop("poses").keys() == poses.TABLE.keys()
    assert asked.record == plain.record


def test_memory_banks_hold_the_copies_and_so_do_those_of_compressed_forms(init, monkeypatch):
    """Three copies of each of ten pictures join them, in the student as in what compress starts from."""
    train, seen = ramps(10, 1), []
    whole = memory_bank.choose_banks

    def noted(found, *given):
        seen.append(len(found["embed_deep"]))
        return whole(found, *given)

    monkeypatch.setattr(memory_bank, "choose_banks", noted)
    monkeypatch.setattr(poses, "shown", lambda *_: {"mirrored": poses.verdict(0.5, 0.0)})
    found = student(init, "shown", train)
    settings = SimpleNamespace(images=16, batch=8, qat_epochs=1, finetune_epochs=1, prune_ratio=0.2, lr=0.001)
    val, run = pictures(8, 64, 2), Run(0, "compress", lambda *_, **__: None, found)
    assert np.array_equal(Imitation(train, val, settings, run).train[:20], np.concatenate([train, train[:, :, ::-1]]))
    QuantizedStudent.fit(train, val, settings, run)
    assert seen == [40, 40]

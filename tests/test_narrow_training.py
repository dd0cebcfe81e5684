"""A narrower trunk learns the patch embeddings of the wide one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from students import pictures
from test_trunks import TINY, filled, written

from stages.detectors import memory_bank, student, student_init, student_training
from stages.detectors.base import Run
from stages.detectors.student_init import new_student, pooled, project
from stages.detectors.student_network import SOURCES
from stages.graph.tensors import flatten_patches, to_tensor

torch.set_num_threads(1)
TRAIN = pictures(24, 64, 1)


@pytest.fixture
def init(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return str(written(filled(TINY), tmp_path / "tiny"))


def unexplained(body, wanted: dict, samples: np.ndarray) -> float:
    """The share of the variance of the wanted embeddings that no linear map of the body's own gives, by numpy."""
    found = memory_bank.embeddings(memory_bank.outputs(body, samples))
    shares = []
    for source in SOURCES:
        own, target = (flatten_patches(maps).double().numpy() for maps in (found[source], wanted[source]))
        own = np.c_[own, np.ones(len(own))]
        rest = target - own @ np.linalg.lstsq(own, target, rcond=None)[0]
        shares.append((rest**2).sum() / ((target - target.mean(0)) ** 2).sum())
    return float(np.mean(shares))


def test_it_comes_nearer_to_the_wide_one(init):
    images = to_tensor(TRAIN)
    wide, narrow = (new_student(init, width, images) for width in (1.0, 0.5))
    for body in (wide, narrow):
        project(body, TRAIN)
    wanted = memory_bank.embeddings(memory_bank.outputs(wide, TRAIN))
    before, mask = unexplained(narrow, wanted, TRAIN), narrow.ops["mask"].conv.weight.clone()
    settings = SimpleNamespace(epochs=40, batch=4, lr=0.01)
    run = Run(0, "distill", lambda *_, **__: None)
    student_training.train_narrow(narrow, memory_bank.without_mask(wide), TRAIN, TRAIN, settings, run)
    assert unexplained(narrow, wanted, TRAIN) < 0.9 * before
    assert torch.equal(narrow.ops["mask"].conv.weight, mask) and not narrow.training
    again = new_student(init, 0.5, images)
    again.load_state_dict(narrow.state_dict())
    project(again, TRAIN)
    for source in SOURCES:
        torch.testing.assert_close(again.ops[f"embed_{source}"].conv.weight, narrow.ops[f"embed_{source}"].conv.weight)


def test_the_embedding_that_training_begins_with_is_least_squares(init):
    body = new_student(init, 0.5, to_tensor(TRAIN))
    wanted = torch.randn(len(TRAIN), 32, 4, 4, generator=torch.Generator().manual_seed(2))
    student_training.fit_embedding(body, "deep", TRAIN, wanted)
    features = torch.cat([flatten_patches(batch) for batch in pooled(body, TRAIN, "deep")]).double().numpy()
    target = flatten_patches(wanted).double().numpy()
    design = np.c_[features, np.ones(len(features))]
    found = flatten_patches(memory_bank.outputs(body, TRAIN)["embed_deep"]).numpy()
    np.testing.assert_allclose(found, design @ np.linalg.lstsq(design, target, rcond=None)[0], atol=5e-3)


@pytest.mark.parametrize(("width", "trained"), [(0.5, True), (1.0, False)])
def test_fit_trains_the_trunk_of_a_narrower_one_alone(init, monkeypatch, width, trained):
    seen: list = []
    monkeypatch.setattr(student, "train_narrow", lambda body, wide, *_: seen.append((body, wide)))
    settings = {"init": init, "width": width, "bank": 64, "poses": "none", "train_trunk": False}
    settings |= {"images": 16, "epochs": 1, "batch": 8, "lr": 0.002, "feature_weight": 1.0, "mask_weight": 0.3}
    run = Run(0, "distill", lambda *_, **__: None)
    student.Student.fit(TRAIN, pictures(9, 64, 2), SimpleNamespace(**settings), run)
    assert bool(seen) == trained
    if trained:
        body, wide = seen[0]
        assert wide.ops["stem"].conv.weight.shape[0] > body.ops["stem"].conv.weight.shape[0] and "mask" not in wide.ops
        assert (
            student_init.new_student(init, 1, to_tensor(TRAIN))
            .ops["stem"]
            .conv.weight.equal(wide.ops["stem"].conv.weight)
        )

"""What the stage refuses before it trains; that any seed, and few validation pictures, can be trained with."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from conftest import ROOT
from students import pictures

from edge.errors import UserError
from stages.common import params
from stages.detectors import score_fusion
from stages.detectors.base import Run
from stages.detectors.memory_bank import part
from stages.detectors.patchcore import PatchCore
from stages.detectors.student import Student
from stages.detectors.student_network import SOURCES, architecture
from stages.detectors.trunks import mobilenet_v2
from stages.distill.__main__ import check_pruning
from stages.graph.network import Network
from stages.graph.prunable import most_prunable

WIDTH, SIZE = 0.25, 64


def student() -> Network:
    return Network(architecture(mobilenet_v2.STAGES, WIDTH), 3).eval()


def test_a_ratio_that_only_the_trained_student_could_lose_is_refused_first(tmp_path, monkeypatch):
    """Which of the two is kept, start or trained, is known after training alone."""
    whole = student()
    start = part(whole, {f"embed_{source}" for source in SOURCES})
    most = sorted(most_prunable(network.nodes, (SIZE, SIZE)) for network in (whole, start))
    assert most[0] < most[1]
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["student"]["width"], tree["input"]["size"] = WIDTH, SIZE
    monkeypatch.chdir(tmp_path)

    def check(ratio):
        tree["compress"]["prune_ratio"] = ratio
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        check_pruning(params.validate(tree))

    check(most[0] - 0.001)
    with pytest.raises(UserError, match="prune_ratio"):
        check(sum(most) / 2)


def test_any_seed_of_the_params_can_be_trained_with(tmp_path, monkeypatch):
    """Up to the largest one that params.yaml may hold; and on four validation pictures, two of which choose weights."""
    monkeypatch.chdir(tmp_path)
    settings = SimpleNamespace(**vars(Student.example()[0]) | {"epochs": 1})
    train = {seed: pictures(12, SIZE, seed) for seed in (1, 2)}
    teacher_settings, _ = PatchCore.example()
    largest = 2**32 - 1
    run = Run(largest, "teacher", lambda step, **values: None)
    teacher = PatchCore.fit(train[1], train[2][:4], teacher_settings, run)
    student = Student.fit(train[1], train[2][:4], settings, replace(run, stage="distill", source=teacher))
    assert {"start", "trained", "kept"} == student.record["validation"].keys()


@pytest.mark.parametrize(("means", "level"), [((4.5, 1.0), 1.75 + 1), ((2.75, 2.75), 1)])
def test_two_unlike_pictures_still_have_a_level(means, level):
    """The lower of two scores may lie below the mean of both maps; it counts where it does not."""
    maps = torch.stack([torch.full((1, 16, 16), value) for value in means])
    maps[:, :, 4:7, 4:7] += 1 * 256 / (256 - 9)
    maps -= 9 / (256 - 9)  # so that a picture's mean stays
    found = score_fusion.normalisation({"deep": maps})["deep"]
    assert found == pytest.approx({"mean": 2.75, "level": level}, rel=1e-5)

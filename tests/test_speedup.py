"""The interleaved comparison with EfficientAD-S."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import yaml
from conftest import ROOT

from edge.errors import UserError
from experiments import interleave, ratios, rivals, speedup
from experiments.__main__ import main
from experiments.efficientad import EfficientAD
from stages.common import atomic
from stages.report.formatting import NONE, significant


def test_the_reference_is_efficientad_s():
    """8.06 M parameters and 37.9 GMAC at 256 x 256, as another implementation has."""
    model = EfficientAD()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(8.06e6, rel=1e-3)
    macs = 0

    def count(layer, inputs, output):
        nonlocal macs
        macs += output.shape[1:].numel() * layer.weight.shape[1:].numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 256, 256)).shape == (1, 1, 256, 256)
    assert macs == pytest.approx(37.9e9, rel=0.01)


@pytest.mark.slow
def test_every_runtime_computes_the_same_network(tmp_path):
    """Float equals eager torch, int8 and bfloat16 follow it; what is pinned in requirements.txt can't be absent."""
    runs, absent = rivals.build(tmp_path)
    assert set(runs) | set(absent) == set(rivals.RUNTIMES)
    assert all("bfloat16" in name or name.startswith("torch.compile") for name in absent), absent
    wanted = runs[rivals.EAGER]()
    for name, once in runs.items():
        found = once()
        assert found.shape == wanted.shape == (1, 1, 256, 256), name
        if "float32" in name:
            np.testing.assert_allclose(found, wanted, atol=1e-3 * wanted.std(), rtol=0, err_msg=name)
        else:
            assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.97, name


def test_a_runtime_that_fails_is_recorded_and_the_rest_runs(monkeypatch, tmp_path):
    def broken(source):
        raise OSError("no compiler\nhere")

    class Source:
        def __init__(self, folder):
            self.folder = folder

    late = {"late": lambda source: lambda: 1 / 0, "works": lambda source: lambda: source.folder}
    monkeypatch.setattr(rivals, "Source", Source)
    monkeypatch.setattr(rivals, "RUNTIMES", {"early": broken, **late})
    runs, absent = rivals.build(tmp_path)
    assert list(runs) == ["works"] and runs["works"]() == tmp_path
    assert absent == {"early": "OSError: no compiler here", "late": "ZeroDivisionError: division by zero"}


def test_pictures_of_another_size_are_refused(project, monkeypatch, capsys):
    monkeypatch.setattr(speedup, "SIZE", 256)
    with pytest.raises(SystemExit):
        main(["speedup", "int8"])
    assert "int8: takes 16 x 16 pictures" in capsys.readouterr().err


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/models").symlink_to(tiny_models.build())
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["variants"]["float"] = params["variants"].pop("teacher-onnx")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setattr(speedup, "SIZE", tiny_models.SIZE)
    slow = {rivals.EAGER: lambda: time.sleep(0.2), "fast, int8": lambda: time.sleep(0.02)}
    monkeypatch.setattr(rivals, "build", lambda folder: (slow, {"gone": "ImportError: no"}))
    monkeypatch.setattr(interleave.os, "sched_setaffinity", lambda *_: None)


BEST = ratios.rival("fast, int8")


def test_ratios_are_those_to_the_fastest_runtime(project, capsys):
    main(["speedup", "float", "int8", "--rounds", "5", "--output", "here/it.json"])
    found = json.loads(Path("here/it.json").read_text())
    latency, ratio = found["latency_ms"], found["times_faster_than_best_rival"]
    assert latency[ratios.EAGER] >= 200 and 20 <= latency[BEST] < 200
    assert found["best_rival"] == BEST and found["rivals"] == [ratios.EAGER, BEST]
    assert ratio[BEST] == 1 and ratio[ratios.EAGER] < 1
    assert ratio["int8"] == pytest.approx(latency[BEST] / latency["int8"]) and ratio["int8"] > 4
    for name, (low, high) in found["p10_p90_ms"].items():
        assert low <= latency[name] <= high
    assert found["teacher"] == "float" and found["code"] is None, "here is no repository"
    assert found["not_measured"] == {ratios.rival("gone"): "ImportError: no"}
    assert found["machine"]["cpu"] and found["versions"]["openvino"]
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("| int8 |"))
    expected = [latency[other] / latency["int8"] for other in (BEST, ratios.EAGER, "float")]
    again = found["again_ms"]
    second = f"{significant(again['int8'])} | {again[BEST] / again['int8']:.1f}"
    assert row.endswith("| " + " | ".join(f"{value:.1f}" for value in expected) + f" | {second} |")
    assert f"the best was {BEST}. 5 rounds." in shown and "EfficientAD-S (gone) not measured: ImportError: no" in shown


def test_published_measurements_make_two_tables(project, tmp_path):
    """The best runtime beside our models, all runtimes below; a record of eager torch alone knows no best."""
    common = {"teacher": "big", "rounds": 3, "machine": {"cpu": "A", "int8": "vnni"}, "versions": {"torch": "2"}}
    latency = {ratios.EAGER: 50.0, BEST: 10.0, ratios.rival("other"): 20.0, "int8": 2.0, "big": 8.0}
    new = {"latency_ms": latency, "rivals": [ratios.EAGER, BEST, ratios.rival("other")], "best_rival": BEST}
    new |= {
        "again_ms": {BEST: 9.0, "int8": 1.5},
        "not_measured": {ratios.rival("gone"): "why"},
        "p10_p90_ms": {"int8": [1.5, 2.5]},
        **common,
    }
    new["code"] = {"commit": "a" * 40, "clean": True, "stages": "b", "edge": "c"}
    old = {"latency_ms": {ratios.EAGER: 50.0, "int8": 2.0}, "teacher": None}
    for name, found in (("width 1", new), ("width 2", old)):
        atomic.write_json(tmp_path / f"demo/speedup/{name}.json", found)
    text = ratios.markdown(tmp_path / "demo")
    lines = text.splitlines()
    assert "| width 1 † | int8 | 2.00 | 1.50 to 2.50 | 5.0 | 25.0 | 4.0 | 1.50 | 6.0 |" in lines
    assert f"| width 2 ‡ | int8 | 2.00 | {NONE} | {NONE} | 25.0 | {NONE} | {NONE} | {NONE} |" in lines
    assert f"| width 1 † | {BEST} | 10.0 | {NONE} | 1.0 | 5.0 | 0.8 | 9.00 | 1.0 |" in lines
    assert not [line for line in lines if line.startswith("| width 1 † | EfficientAD-S (other)")]
    assert "| EfficientAD-S (other) | 20.0 |" in lines and f"| EfficientAD-S (gone) | {NONE} |" in lines
    assert f"- width 1: A (vnni), torch 2; the best was {BEST}. 3 rounds." in lines
    assert "- width 2: EfficientAD-S ran in eager torch alone; its best runtime is not known there." in lines
    assert lines[-1] == "- Made by different code: † commit aaaaaaa; ‡ code not recorded."
    (tmp_path / "demo/speedup/width 1.json").unlink()
    assert len(ratios.markdown(tmp_path / "demo").splitlines()[0].split("|")) == len(lines[0].split("|")) - 2
    with pytest.raises(UserError, match="no measurement"):
        ratios.markdown(tmp_path / "another")


@pytest.mark.parametrize("rounds", ["0", "-3", "1000000"])
def test_rounds_have_limits(project, capsys, rounds):
    with pytest.raises(SystemExit):
        main(["speedup", "int8", "--rounds", rounds])
    assert capsys.readouterr().err == f"error: speedup: --rounds {rounds}: must be from 1 to 100000\n"


def test_a_missing_variant_is_one_line(project, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["speedup", "nowhere"])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.startswith("error: speedup: ") and len(error.splitlines()) == 1


def test_each_model_runs_after_another_one_and_again_at_once(project, monkeypatch):
    """Here a call takes longer where the one before was another model's."""
    last = []

    def run(name):
        def once():
            time.sleep(0.2 if last[-1:] != [name] else 0.005)
            last.append(name)

        return once

    monkeypatch.setattr(rivals, "build", lambda folder: ({rivals.EAGER: run("a"), "fast, int8": run("b")}, {}))
    main(["speedup", "int8", "--rounds", "3", "--output", "it.json"])
    found = json.loads(Path("it.json").read_text())
    for name in (ratios.EAGER, BEST):
        assert found["latency_ms"][name] >= 200 > found["again_ms"][name]
    assert last[-4:] == ["a", "a", "b", "b"]

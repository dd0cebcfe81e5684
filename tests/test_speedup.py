"""The interleaved comparison with EfficientAD-S."""

import json
import time
from pathlib import Path

import pytest
import tiny_models
import torch
import yaml
from conftest import ROOT

from edge.errors import UserError
from experiments import ratios, speedup
from experiments.__main__ import main
from stages.common import atomic
from stages.report.formatting import NONE


def test_the_reference_is_efficientad_s():
    """8.06 M parameters and 37.9 GMAC at 256 x 256, as another implementation has."""
    model = speedup.EfficientAD()
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
    monkeypatch.setattr(speedup, "reference", lambda: lambda: time.sleep(0.05))
    monkeypatch.setattr(speedup.os, "sched_setaffinity", lambda *_: None)


def test_ratios_are_those_of_the_medians(project, capsys):
    main(["speedup", "float", "int8", "--rounds", "5", "--output", "here/it.json"])
    found = json.loads(Path("here/it.json").read_text())
    latency, ratio = found["latency_ms"], found["times_faster_than_efficientad_s"]
    assert latency[speedup.REFERENCE] >= 50 and ratio[speedup.REFERENCE] == 1
    assert ratio["int8"] == pytest.approx(latency[speedup.REFERENCE] / latency["int8"]) and ratio["int8"] > 10
    assert found["teacher"] == "float" and found["code"] is None, "here is no repository"
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| int8 |"))
    assert row.endswith(f" {latency['float'] / latency['int8']:.1f} |")


def test_published_measurements_make_one_table(project, tmp_path):
    for name, teacher in (("width 1", 10.0), ("width 2", None)):
        latency = {ratios.REFERENCE: 50.0, "int8": 2.0} | ({"big": teacher} if teacher else {})
        faster = {model: 50.0 / value for model, value in latency.items()}
        found = {"latency_ms": latency, "times_faster_than_efficientad_s": faster, "teacher": teacher and "big"}
        if teacher:
            found["code"] = {"commit": "a" * 40, "clean": True, "stages": "b", "edge": "c"}
        atomic.write_json(tmp_path / f"demo/speedup/{name}.json", found)
    lines = ratios.markdown(tmp_path / "demo").splitlines()
    assert "| width 1 † | int8 | 2.00 | 25 | 5.0 |" in lines and f"| width 2 ‡ | int8 | 2.00 | 25 | {NONE} |" in lines
    assert lines[-1] == "- Made by different code: † commit aaaaaaa; ‡ code not recorded."
    with pytest.raises(UserError, match="no measurement"):
        ratios.markdown(tmp_path / "another")


def test_a_missing_variant_is_one_line(project, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["speedup", "nowhere"])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.startswith("error: speedup: ") and len(error.splitlines()) == 1

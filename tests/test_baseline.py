"""A baseline: any detector kind, fitted, exported and evaluated by the same stages as the student."""

import json
import subprocess
from types import SimpleNamespace

import pytest
import toy
import yaml
from conftest import ROOT, one_line
from test_params import NOT_NUMBERS, TREE, numbers, without_limits

from edge.errors import UserError
from edge.geometry import Geometry
from edge.tiling import Tiles
from stages.baseline.__main__ import fit
from stages.common import params as params_module
from stages.detectors.patchcore import PatchCore
from stages.detectors.registry import all_kinds, find

pytestmark = pytest.mark.slow
SETTINGS = {"backbone": "simclr", "layers": [0, 1], "scales": [1.0], "simclr_steps": 2, "simclr_batch": 8}
SETTINGS |= {"patch_pool": 3, "patch_stride": 2, "coreset_ratio": 0.05, "coreset_max_patches": 2000}
SETTINGS |= {"projection_dim": 16, "score": "max"}


def with_baseline(folder, **changes):
    """Adds the baseline `small` and a variant of it to the toy project, as a user would."""
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    tree["baselines"] = {"small": {"kind": "patchcore", "settings": SETTINGS, **changes}}
    tree["variants"]["small-onnx"] = {
        "model": "baseline/small",
        "format": "onnx",
        "precision": "float32",
        "role": "baseline",
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    command = ["python", "-m", "stages.report.dependencies"]
    subprocess.run(command, cwd=folder, env=toy.environment(), check=True)
    return folder


def test_a_baseline_goes_from_params_to_its_accuracy(tmp_path):
    folder = with_baseline(toy.make(tmp_path))
    done = toy.dvc(folder, "repro", "evaluate@small-onnx")
    assert done.returncode == 0, done.stderr
    assert toy.ran(done) == {"fetch", "baseline@small", "compile@small-onnx", "evaluate@small-onnx"}
    kept = json.loads((folder / "artifacts/baseline/small/detector.json").read_text())
    assert kept["kind"] == PatchCore.kind and kept["score"] == "max"
    found = json.loads((folder / "artifacts/eval/small-onnx.json").read_text())
    assert 0 <= found["image_auroc"] <= 1 and found["size_bytes"] > 1e5
    listed = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["report"]["deps"]
    assert {"artifacts/eval/small-onnx.json", "reports/curves/baseline-small"} <= set(listed)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    tree["baselines"]["small"]["settings"]["coreset_ratio"] = 0.1
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    again = toy.dvc(folder, "repro", "evaluate@small-onnx")
    assert toy.ran(again) == {"baseline@small", "compile@small-onnx", "evaluate@small-onnx"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "oracle"}, "baselines.small.kind: no detector kind 'oracle'; there are autoencoder,"),
        ({"kind": "quantized_student"}, "baselines.small.kind = quantized_student: needs another detector"),
        ({"settings": {**SETTINGS, "score": "mean"}}, "baselines.small.settings score = 'mean': Input should be 'max'"),
        ({"settings": {**SETTINGS, "depth": 3}}, "baselines.small.settings depth: unknown key; remove it"),
    ],
)
def test_a_wrong_baseline_is_one_line(changes, words, tmp_path):
    folder = with_baseline(toy.make(tmp_path), **changes)
    command = ["python", "-m", "stages.baseline", "small"]
    done = subprocess.run(command, cwd=folder, env=toy.environment(), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr


def test_a_supervised_kind_takes_no_tiles():
    chosen = SimpleNamespace(labels=SimpleNamespace(kind="supervised", settings={}))
    params = SimpleNamespace(baselines=chosen, input=SimpleNamespace(geometry=Geometry(64, 64, tiles=Tiles(columns=2))))
    with pytest.raises(UserError, match="the kind supervised learns from whole pictures") as caught:
        fit(params, "labels")
    one_line(caught)


def test_a_state_sees_every_frame():
    chosen = SimpleNamespace(stream=SimpleNamespace(kind="convlstm", settings={"streaming": True}))
    params = SimpleNamespace(baselines=chosen, input=SimpleNamespace(geometry=Geometry(64, 64), step=2))
    with pytest.raises(
        UserError, match=r"stream\.settings\.streaming: a state sees every frame, but input\.step = 2"
    ) as e:
        fit(params, "stream")
    one_line(e)


def test_a_baseline_without_settings_is_refused_with_all_of_params():
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["baselines"] = {"small": {"kind": "patchcore"}}
    with pytest.raises(params_module.UserError, match=r"params.yaml: baselines\.small\.settings: missing; add it"):
        params_module.validate(tree)


@pytest.mark.parametrize("kind", [kind for kind, found in all_kinds().items() if found.Settings])
def test_settings_have_limits_on_both_sides(kind):
    schema = find(kind).Settings.model_json_schema()
    assert without_limits(schema, schema) == []


@pytest.mark.parametrize("name", TREE["baselines"])
def test_no_number_of_the_tracked_settings_takes_what_is_none_or_out_of_range(name):
    kind, settings = (TREE["baselines"][name][key] for key in ("kind", "settings"))
    params_module.check(find(kind).Settings, settings, "settings:")
    for key in numbers(settings):
        for value in NOT_NUMBERS:
            with pytest.raises(params_module.UserError, match=f"^settings: {key} = ") as caught:
                params_module.check(find(kind).Settings, {**settings, key: value}, "settings:")
            one_line(caught)

"""The table of methods: what is kept of a run, which runtime a method gets, and the figures over several seeds."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
from conftest import one_line

from edge.errors import UserError
from experiments import method_table, methods
from experiments.__main__ import main
from stages.common.yamlfile import read_yaml
from stages.report.formatting import NONE

CODE = {"commit": "1" * 40, "clean": True, "stages": "a", "edge": "b"}
OTHER = {"commit": "2" * 40, "clean": True, "stages": "c", "edge": "b"}


def one(model: str, form: str, auroc: float, precision: str = "float32", code=CODE) -> dict:
    what = {"model": model, "format": form, "precision": precision, "role": "baseline", "code": code, "how": "measured"}
    accuracy = {"image_auroc": auroc, "pixel_auroc": auroc / 2, "aupro": None, "pixel_resolution": "full"}
    return what | accuracy | {"params": 1000, "macs": 2_000_000, "size_bytes": 4000, "fidelity": None}


@pytest.fixture
def folder(tmp_path):
    """Two seeds of a method in two formats, of which the second is faster, and one seed of another in int8."""
    padim = [{"padim-onnx": one("baseline/padim", "onnx", 0.80)}, {"padim-onnx": one("baseline/padim", "onnx", 0.90)}]
    padim[0]["padim-openvino"] = one("baseline/padim", "openvino", 0.81)
    padim[0]["ead-int8"] = one("baseline/ead", "tflite", 0.5, "int8", OTHER) | {"fidelity": {"exact": 0.99871}}
    (tmp_path / "methods").mkdir()
    for seed, variants in enumerate(padim):
        record = {"seed": seed, "variants": variants}
        (tmp_path / "methods" / f"{seed}.json").write_text(json.dumps(record))
    times = {"rounds": 7, "versions": {"onnxruntime": "1.0"}, "machine": {"cpu": "a CPU", "int8": "vnni"}, "code": CODE}
    times |= {"latency_ms": {"padim-onnx": 3.0, "padim-openvino": 2.0, "ead-int8": 9.0}}
    times |= {"p10_p90_ms": {name: [1.0, 5.0] for name in times["latency_ms"]}}
    (tmp_path / "methods" / "latency.json").write_text(json.dumps(times))
    return tmp_path


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_method_has_its_fastest_runtime_and_all_its_seeds(folder):
    lines = method_table.markdown(folder).splitlines()
    row = dict(zip(cells(lines[0]), cells(lines[3]), strict=True))
    mean, deviation = np.mean([0.81, 0.90]), np.std([0.81, 0.90], ddof=1)  # seed 1 has ONNX alone
    assert row["Method"] == "padim, float32 ‡" and row["Seeds"] == "2"
    assert row["AUROC"] == f"{mean:.3f} ± {deviation:.3f}" and row["AUPRO (full)"] == NONE
    assert (row["Runtime"], row["p50 ms"], row["p10 to p90"]) == ("OpenVINO", "2.00", "1.00 to 5.00")
    assert cells(lines[2])[:3] == ["ead, int8 †", "1", "0.500"] and "TFLite" in lines[2]
    text = "\n".join(lines)
    assert "† commit 2222222; ‡ commit 1111111" in text and "differ by 0.0100 of image AUROC at most" in text
    assert "network's, at least: ead, int8 99.87%." in text
    head, _, ead, padim = (cells(line) for line in lines[5:9])
    assert head == ["Method", "ONNX, p50 ms", "OpenVINO, p50 ms", "TFLite, p50 ms"]
    assert (ead[1:], padim[1:]) == ([NONE, NONE, "9.00"], ["3.00", "2.00", NONE])


def test_without_times_the_first_format_is_shown(folder):
    (folder / "methods" / "latency.json").unlink()
    lines = method_table.markdown(folder).splitlines()
    assert cells(lines[3])[2] == f"{np.mean([0.8, 0.9]):.3f} ± {np.std([0.8, 0.9], ddof=1):.3f}"
    assert cells(lines[3])[-3:] == [NONE] * 3 and "Latency" not in "".join(lines)


def test_a_folder_without_records_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"methods: no record; python -m experiments methods writes one") as caught:
        method_table.markdown(tmp_path)
    one_line(caught)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A run with two evaluated variants and a published folder; its files are the tiny ones."""
    tree = read_yaml("params.yaml")
    monkeypatch.setattr(methods.params, "read_yaml", lambda _: tree)
    monkeypatch.setattr(methods.provenance, "current", lambda: CODE)
    monkeypatch.setattr(methods.interleave, "one_core", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/eval").mkdir(parents=True)
    (tmp_path / "reports/published/toy").mkdir(parents=True)
    for name, file, auroc in (("teacher-onnx", "onnx", 0.7), ("student-int8", "int8", 0.6)):
        shutil.copytree(tiny_models.build() / file, tmp_path / "artifacts/models" / name)
        found = {"image_auroc": auroc, "pixel_auroc": 0.5, "aupro": 0.4, "pixel_resolution": "full", "how": "measured"}
        found |= {"params": 5, "macs": 7, "size_bytes": 9, "fidelity": None, "per_defect": {}}
        found |= {"test_index_sha256": "a" * 64}
        (tmp_path / f"artifacts/eval/{name}.json").write_text(json.dumps(found))
    return tmp_path / "reports/published/toy"


def test_the_command_keeps_a_run_and_what_is_added_to_it(project):
    main(["methods", "toy", "teacher-onnx"])
    main(["methods", "toy", "student-int8", "teacher-onnx", "--rounds", "3"])
    (path,) = (path for path in (project / "methods").iterdir() if path.name != "latency.json")
    found, times = json.loads(path.read_text()), json.loads((project / "methods/latency.json").read_text())
    assert sorted(found["variants"], reverse=True) == ["teacher-onnx", "student-int8"] and path.stem == str(
        found["seed"]
    )
    kept = found["variants"]["student-int8"]
    assert (kept["model"], kept["format"], kept["image_auroc"], kept["code"]) == ("qat", "tflite", 0.6, CODE)
    assert set(times["latency_ms"]) == {"teacher-onnx", "student-int8"} and times["rounds"] == 3
    assert all(0 < low <= times["latency_ms"][name] <= high for name, (low, high) in times["p10_p90_ms"].items())
    text = method_table.markdown(project)
    assert "| teacher, float32 | 1 | 0.700 |" in text and "| student, int8 | 1 | 0.600 |" in text


def test_what_would_be_mixed_up_or_lost_is_one_line(project, capsys):
    main(["methods", "toy", "student-int8", "teacher-onnx", "--rounds", "2"])
    with pytest.raises(SystemExit):
        main(["methods", "toy", "student-int8", "--rounds", "2"])
    assert "latency.json: has times of teacher-onnx too" in capsys.readouterr().err
    path = methods.EVALS / "student-int8.json"
    path.write_text(path.read_text().replace("a" * 64, "b" * 64))
    kept = {path: path.read_bytes() for path in (project / "methods").iterdir()}
    with pytest.raises(SystemExit):
        main(["methods", "toy", "student-int8"])
    said = capsys.readouterr().err
    assert "is of other test pictures than this run" in said and said.count("\n") == 1
    assert {path: path.read_bytes() for path in (project / "methods").iterdir()} == kept


def test_a_test_of_one_class_and_two_files_of_one_format(folder):
    path = folder / "methods/0.json"
    record = json.loads(path.read_text())
    record["variants"]["padim-slow"] = one("baseline/padim", "openvino", 0.81) | {"image_auroc": None}
    path.write_text(json.dumps(record))
    times = json.loads((folder / "methods/latency.json").read_text())
    times["latency_ms"]["padim-slow"], times["p10_p90_ms"]["padim-slow"] = 8.0, [7.0, 9.0]
    (folder / "methods/latency.json").write_text(json.dumps(times))
    lines = method_table.markdown(folder).splitlines()
    assert ["padim, float32", "3.00", "2.00", NONE] in [cells(line) for line in lines], "the faster one of OpenVINO"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toy", "oracle"], "oracle: no variant of params.yaml"),
        (["toy", "student-fp32"], "artifacts/eval/student-fp32.json: not found"),
        (["other", "teacher-onnx"], "reports/published/other: not found"),
        (["toy", "teacher-onnx", "--rounds", "-1"], "--rounds -1"),
    ],
)
def test_what_it_cannot_keep_is_one_line(project, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["methods", *arguments])
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1

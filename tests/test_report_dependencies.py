"""The list of results in dvc.yaml, which `report` depends on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import report_project

from stages.report import dependencies


def test_the_results_in_dvc_yaml_are_those_of_params_and_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml", "hardware_runners/plan.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text((report_project.ROOT / name).read_text())
    dependencies.main(["--check"])
    first, second = [f"      - artifacts/eval/teacher-onnx.{end}\n" for end in ("json", "npz")]
    old = Path("dvc.yaml").read_text()
    assert old.count(first + second) == 1 and old.count(first) == 2  # the report needs no maps
    Path("dvc.yaml").write_text(old.replace(first + second, second + first))
    dependencies.main(["--check"])  # in whatever order
    Path("dvc.yaml").write_text(old)
    params_yaml, plan = Path("params.yaml"), Path("hardware_runners/plan.yaml")
    plan.write_text(plan.read_text().replace("local-teacher-onnx:", "pi5-teacher-onnx:"))
    params_yaml.write_text(params_yaml.read_text().replace("  pruned-fp32:\n", "  thin-fp32:\n"))
    with pytest.raises(SystemExit):
        dependencies.main([])
    assert "local-pruned-fp32: variant pruned-fp32 is not in params.yaml" in capsys.readouterr().err
    plan.write_text(plan.read_text().replace("variant: pruned-fp32", "variant: thin-fp32"))
    with pytest.raises(SystemExit) as stop:
        dependencies.main(["--check"])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and "run python -m stages.report.dependencies" in error
    assert Path("dvc.yaml").read_text() == old
    dependencies.main([])
    dependencies.main(["--check"])
    changed = set(Path("dvc.yaml").read_text().splitlines()) ^ set(old.splitlines())
    assert {line.strip() for line in changed} == {
        *(f"- artifacts/eval/{name}.{end}" for name in ("pruned-fp32", "thin-fp32") for end in ("json", "npz")),
        *(f"- artifacts/bench/{name}-teacher-onnx.json" for name in ("local", "pi5")),
    }
    for stage in ("illustrate", "report"):
        text = Path("dvc.yaml").read_text()
        place = text.index("# end of results", text.index(f"  {stage}:\n"))
        Path("dvc.yaml").write_text(f"{text[:place]}# end{text[place + 16 :]}")
        with pytest.raises(SystemExit):
            dependencies.main([])
        assert f"dvc.yaml: {stage} has no lines" in capsys.readouterr().err
        Path("dvc.yaml").write_text(text)


@pytest.mark.parametrize("stage", ["illustrate", "report"])
def test_a_stage_says_that_its_list_is_old(tmp_path, stage):
    """Before anything is read: DVC did not bring up to date what is not listed."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((report_project.ROOT / name).read_text())
    (tmp_path / "hardware_runners").mkdir()
    (tmp_path / "hardware_runners/plan.yaml").write_text("plan: {}\n")
    environment = {**os.environ, "PYTHONPATH": str(report_project.ROOT)}
    command = [sys.executable, "-m", f"stages.{stage}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {stage}: dvc.yaml: lists other results than")
    assert done.stderr.count("\n") == 1

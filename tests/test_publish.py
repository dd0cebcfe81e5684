"""Published records: which code made them, what `publish` refuses, and the pages that show them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import report_project
import toy
from conftest import ROOT
from imports import PACKAGES
from report_project import run

from edge.errors import UserError
from experiments import provenance, publish
from experiments.__main__ import main

OF_RESULTS = provenance.of_results


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def code(letter: str, clean: bool = True) -> dict:
    """The code of a record, as `provenance` writes it."""
    return {"commit": letter * 40, "clean": clean, "stages": f"stages {letter}", "edge": "edge"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in which `report` ran, its code being that of commit aaaaaaa."""
    made = report_project.make(tmp_path, per_type=2)
    monkeypatch.chdir(tmp_path)
    for name in ("autoencoder", "gone"):  # which params.yaml has, and had
        shutil.copytree("reports/curves/distill", f"reports/curves/baseline-{name}")
    monkeypatch.setattr(provenance, "of_results", lambda dirty: code("a", not dirty))
    run(made)
    return made


def marks(*names: str) -> str:
    """A page with an empty block for each kind:name."""
    return "".join(f"# {n}\n\n<!-- {n} -->\nold\n<!-- /{n.partition(':')[0]} -->\n" for n in names)


def refused(capsys, *arguments: str) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    error = capsys.readouterr().err
    assert stop.value.code == 1 and error.count("\n") == 1 and error.startswith(f"error: {arguments[0]}: ")
    return error


# pages


def test_results_are_shown_on_any_page(project, tmp_path, capsys):
    main(["publish", "demo"])
    folder = publish.PUBLISHED / "demo"
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) < publish.LIMIT
    assert "samples_ms" not in "".join(path.read_text() for path in folder.rglob("*.json"))
    stages = ("baseline-autoencoder", "compress", "distill")
    assert tuple(sorted(path.name for path in (folder / "curves").iterdir())) == stages
    data = Path("reports/figures/curves.csv").read_text()
    assert all(f"{stage}: " in data for stage in stages) and "baseline-gone" not in data
    for stage in stages:
        made = Path("reports/curves") / stage / "plots/metrics/loss.tsv"
        assert (folder / "curves" / stage / "loss.tsv").read_bytes() == made.read_bytes()
    assert cv2.imread(str(folder / "curves.png")) is not None
    page, other = Path("README.md"), Path("docs/results.md")
    page.write_text("# Title\n")
    assert "README.md and docs/: no <!-- published:demo -->" in refused(capsys, "readme", "--check")
    other.parent.mkdir()
    other.write_text(marks("published:demo") + "\nend\n")
    assert "docs/results.md: not what reports/published says" in refused(capsys, "readme", "--check")
    main(["readme"])
    main(["readme", "--check"])
    text = other.read_text()
    assert text.startswith("# published:demo\n\n<!-- published:demo -->\n| Variant") and text.endswith("\n\nend\n")
    assert "| student-int8 | edgetpu | unavailable: no such device here |" in text and "old" not in text
    assert "- Seed 0. Commit aaaaaaa.\n" in text and page.read_text() == "# Title\n"
    (folder / "run.json").unlink()  # published before records named their code
    main(["readme"])
    assert "- Code not recorded.\n<!-- /published -->" in other.read_text()
    page.write_text("<!-- ablation:demo -->\n" + marks("ablation:demo"))
    assert "README.md: a mark like" in refused(capsys, "readme")


def test_the_pages_of_this_repository_are_up_to_date(monkeypatch):
    monkeypatch.chdir(ROOT)
    main(["readme", "--check"])


@pytest.mark.slow
def test_the_ablation_over_published_seeds(project, tmp_path, capsys):
    """Mean and deviation against numpy, and the code of each seed."""
    main(["publish", "demo"])
    this = json.loads(Path("reports/ablation.json").read_text())
    values = [0.972, 0.95, 0.99]
    for seed, value in enumerate(values[1:], 1):
        other = json.loads(json.dumps(this)) | {"seed": seed}
        other["steps"]["float"]["image_auroc"] = value
        report_project.write(tmp_path / f"reports/published/demo/seeds/{seed}.json", other)
    page = Path("README.md")
    page.write_text(marks("published:demo", "ablation:demo"))
    main(["readme"])
    block = page.read_text().partition("<!-- ablation:demo -->")[2]
    assert f"| student-fp32 | float | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |" in block
    assert block.index("| float |") < block.index("| int8 |") < block.index("| pruned |")
    assert "- Made by different code: seed 0: commit aaaaaaa; seeds 1, 2: code not recorded.\n" in block
    other["settings"]["compress"]["prune_ratio"] = 0.9
    report_project.write(tmp_path / "reports/published/demo/seeds/9.json", other)
    assert "needs records of equal settings" in refused(capsys, "readme")
    results = Path("reports/published/demo/summary.json").read_bytes()
    Path("reports/summary.json").write_text("[]")
    main(["publish", "demo", "--seed-only"])
    assert Path("reports/published/demo/summary.json").read_bytes() == results
    run(project)
    main(["publish", "demo"])  # seeds of other settings go
    assert sorted(path.stem for path in Path("reports/published/demo/seeds").iterdir()) == ["0", "1", "2"]
    main(["readme"])


# the code of a record


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, env=toy.environment())
    return done.stdout.strip()


@pytest.fixture
def repository(here):
    """A repository with a file in each folder of code, committed."""
    for name in ("stages/a.py", "edge/b.py", "params.yaml", "reports/published/x.json"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("key: 1\n")
    assert provenance.current() is None, "no repository yet"
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "start")
    return here


def test_code_is_what_lies_in_stages_and_edge(repository):
    found = provenance.current()
    trees = {line.split()[3]: line.split()[2] for line in git("ls-tree", "HEAD").splitlines()}
    assert found == {"clean": True, "commit": git("rev-parse", "HEAD")} | {n: trees[n] for n in ("stages", "edge")}
    (repository / "params.yaml").write_text("seed: 1")
    (repository / "dvc.lock").write_text("new")
    assert provenance.current() == found, "settings are no code"
    git("add", "-A")
    git("commit", "-qm", "settings")
    assert provenance.current() == found | {"commit": git("rev-parse", "HEAD")}
    (repository / "stages/new.py").write_text("not tracked")
    assert not provenance.current()["clean"]
    git("add", "-A")
    git("commit", "-qm", "code")
    changed = provenance.current()
    assert changed["clean"] and changed["edge"] == found["edge"] and changed["stages"] != found["stages"]
    (repository / "edge/b.py").write_text("changed")
    assert provenance.current() == changed | {"clean": False}


STAGES = """
stages:
  evaluate:
    cmd: cp stages/a.py made.txt
    deps: [stages/a.py]
    outs: [made.txt]
  benchmark:
    foreach: {away: 1}
    do:
      cmd: exit 75
      deps: [made.txt]
      outs: ["artifacts/bench/${key}.json"]
  report:
    cmd: cp made.txt report.txt
    deps: [made.txt, reports/published]
    outs: [report.txt]
"""


@pytest.mark.slow
def test_results_of_other_code_are_refused(repository):
    """What `dvc status` calls changed; neither a device that was away nor a new published record counts."""
    (repository / "dvc.yaml").write_text(STAGES)
    for arguments in (("init", "-q"), ("repro", "evaluate", "report")):
        done = toy.dvc(repository, *arguments)
        assert done.returncode == 0, done.stderr
    git("add", "-A")
    git("commit", "-qm", "run")
    report_project.write(repository / "artifacts/bench/away.json", {"status": "unavailable"})
    (repository / "reports/published/x.json").write_text("another")
    assert provenance.of_results(dirty=False) == provenance.current()
    (repository / "stages/a.py").write_text("changed")
    with pytest.raises(UserError, match="stages or edge has changes that are not committed"):
        provenance.of_results(dirty=False)
    git("commit", "-qam", "change")
    with pytest.raises(UserError, match="evaluate changed since they were made; run dvc repro"):
        provenance.of_results(dirty=False)
    assert provenance.of_results(dirty=True) == provenance.current() | {"clean": False}


def test_publish_refuses_before_it_writes(project, monkeypatch, capsys):
    """Here there is no commit that a record could name."""
    main(["publish", "demo"])
    before = digests(publish.PUBLISHED)
    monkeypatch.setattr(provenance, "of_results", OF_RESULTS)
    this = Path("reports/ablation.json")
    report_project.write(this, json.loads(this.read_text()) | {"seed": 5})
    for kind in ((), ("--seed-only",)):
        assert "there is no git commit" in refused(capsys, "publish", "demo", *kind)
    assert digests(publish.PUBLISHED) == before
    main(["publish", "demo", "--seed-only", "--dirty"])
    record = json.loads(Path("reports/published/demo/seeds/5.json").read_text())
    assert record["code"] is None and digests(publish.PUBLISHED).items() > before.items()


def test_rows_of_different_code_are_marked():
    a, b, dirty, old = {"code": code("a")}, {"code": code("b")}, {"code": code("a", False)}, {}
    same = {"code": code("a") | {"commit": "c" * 40}}  # another commit of the same code
    assert provenance.footnotes([[a], [a, same]]) == (["", ""], ["Commit aaaaaaa."])
    assert provenance.footnotes([[old], [old]]) == (["", ""], ["Code not recorded."])
    assert provenance.footnotes([[a], [old], [b, a], [dirty], [same]]) == (
        [" †", " ‡", " † §", " ¶", " †"],
        [
            "Made by different code: † commit aaaaaaa; ‡ code not recorded; § commit bbbbbbb; "
            "¶ commit aaaaaaa with uncommitted changes."
        ],
    )
    many = [[{"code": code(letter)}] for letter in "abcdef"]
    assert len(set(provenance.footnotes(many)[0])) == 6


def test_nothing_imports_the_experiments_and_pages_need_no_torch():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) experiments\b", path.read_text(), re.MULTILINE), path
    code = "import sys, experiments.readme, experiments.publish; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr

"""`make ci-report`: what the page says of a change, and what is refused in one line; the whole: test_pipeline.py."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import toy
import yaml
from conftest import ROOT, one_line
from markdown_it import MarkdownIt

from edge.errors import UserError
from experiments import ci_page, ci_report
from stages.report import figures

ABOUT = {"title": "Line 4", "head": "a" * 40, "base": "b" * 40, "link": "index.html"}
STAGES = {"ran": ["report"], "restored": [], "unchanged": ["fetch"]}


def result(variant, auroc, size, p50, status="ok"):
    return {
        **{"variant": variant, "device": "local", "status": status, "image_auroc": auroc, "aupro": None, "f1": 0.9},
        **{"size_bytes": size, "latency_ms": {"p50": p50, "p99": 2 * p50} if status == "ok" else None},
        "how": {"accuracy": "measured", "latency": "measured" if status == "ok" else "not measured (away)"},
    }


def state(*results, cpu="A", settings=None):
    bench = [{"variant": r["variant"], "device": "local", "machine": {"cpu": cpu}} for r in results]
    return ci_report.state(json.dumps(x).encode() for x in (settings or {"seed": 0}, results, *bench))


def page(now, then, plots=None):
    return ci_page.page(ABOUT, STAGES, now, then, 10, plots or {"curves.png": None})


def cells(text, variant):
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {variant} "))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_changes_of_accuracy_size_and_latency_are_in_the_table():
    before = state(result("big", 0.95, 2_000_000, 4.0), result("small", 0.9, 100_000, 1.0))
    after = state(result("big", 0.95, 2_000_000, 4.0), result("small", 0.953, 98_000, 1.25))
    text = page(after, before)
    assert cells(text, "small") == [
        *("small", "local", "0.953 (+0.053)", "–", "0.900", "98.0 kB (−2.00 kB)"),  # noqa: RUF001
        *("1.25 (+0.250)", "2.50 (+0.500)"),
    ]
    assert cells(text, "big")[2:] == ["0.950", "–", "0.900", "2.00 MB", "4.00", "8.00"]  # noqa: RUF001
    assert "**small**" in text and "(before: big)" in text and "- Ran (1): report" in text
    assert "No figure changed." not in text and "No figure changed." in page(before, before)


def test_latencies_of_different_machines_are_not_subtracted():
    before, after = state(result("a", 0.9, 1000, 1.0), cpu="A"), state(result("a", 0.9, 1000, 3.0), cpu="B")
    text = page(after, before)
    assert cells(text, "a")[6:] == ["3.00", "6.00"]
    assert "measured on B, before on A; these latencies can't be compared" in text


def test_pixel_figures_of_different_resolutions_are_not_subtracted():
    def one(variant, aupro, pixels):
        return result(variant, 0.9, 1000, 1.0) | {"aupro": aupro, "pixel_resolution": pixels}

    before = state(one("a", 0.7, None), one("b", 0.7, "full"))
    text = page(state(one("a", 0.8, "full"), one("b", 0.8, "full")), before)
    assert cells(text, "a")[3] == "0.800" and cells(text, "b")[3] == "0.800 (+0.100)"
    assert "| AUPRO (full) |" in text and "AUPRO was at another resolution before, which can't be compared" in text
    text = page(before, before)
    assert (cells(text, "a")[3], cells(text, "b")[3]) == ("0.700 (model)", "0.700 (full)")
    assert "No figure changed." in text and "another resolution before" not in text


def test_what_is_new_gone_away_or_without_results_is_said():
    before, after = state(result("a", 0.9, 1000, 1.0)), state(result("b", 0.9, 1000, 1.0, "unavailable"))
    text = page(after, before)
    assert "a on local: no longer there" in text and "b on local: not measured (away)" in text
    text = page(before, ci_report.state([None, None]))
    assert "nothing to compare with" in text and "No figure changed" not in text


def test_settings_are_compared_and_can_not_break_the_page():
    rows = result("a", 0.9, 1000, 1.0)
    now = state(rows, settings={"report": {"title": "x | <img src=y>\n# @all"}, "list": [1]})
    text = page(now, state(rows, settings={"report": {"title": "x"}, "old": 1, "list": [1]}))
    html = MarkdownIt().enable("table").render(text)
    assert (
        "<img src=y" not in html
        and "&lt;img" in html
        and "<code>old</code>" in html
        and "<code>list</code>" not in html
    )
    assert html.count("<h1>") == 1 and "@all" not in text
    assert "No setting changed." in page(now, now)


def test_plots_that_differ_stand_beside_those_of_the_base(here):
    (here / "reports/plots").mkdir(parents=True)
    (here / "reports/plots/a.png").write_bytes(b"new")
    assert ci_report.keep("a.png", b"new") is None and ci_report.keep("a.png", None) is None
    place = ci_report.keep("a.png", b"old")
    assert (here / "reports" / place).read_bytes() == b"old"
    text = page(*[state(result("a", 0.9, 1000, 1.0))] * 2, {"a.png": place, "b.png": None})
    assert f"| ![a.png before]({place}) | ![a.png](plots/a.png) |" in text and "1 of 2 differ" in text


def test_no_plot_that_shows_pictures_of_the_data_is_in_the_page():
    """Every file that the report draws by a name of its own is either withheld or known to be a chart."""
    stages = [path for stage in ("illustrate", "report") for path in (ROOT / "stages" / stage).glob("*.py")]
    text = "".join(path.read_text() for path in stages)
    named = set(re.findall(r'folder / "(\w+\.png)"', text)) | {figures.DEFECTS.name}
    assert named == {*ci_report.WITHHELD, "supervised.png", "types_confusion.png", "types_map.png"}


@pytest.fixture
def repository(here):
    """A repository with params.yaml, the plan and a dvc.lock; without a remote."""
    (here / "hardware_runners").mkdir()
    for name in ("params.yaml", "hardware_runners/plan.yaml"):
        shutil.copy(ROOT / name, here / name)
    (here / "dvc.yaml").write_text("stages: {}\n")
    (here / "dvc.lock").write_text("schema: '2.0'\n")
    subprocess.run(["git", "init", "-q"], check=True)
    assert toy.dvc(here, "init", "-q").returncode == 0
    toy.git(here, "add", "-A")
    toy.git(here, "commit", "-qm", "first")
    return here


def refused(base="HEAD") -> str:
    with pytest.raises(UserError) as caught:
        ci_report.run(SimpleNamespace(base=base, link="index.html", bench=False))
    return one_line(caught)


def test_without_a_remote(repository):
    assert refused().startswith("no remote is configured: dvc remote add --default NAME URL; see docs/shared-cache.md")


def test_what_no_commit_names(repository):
    text = (repository / "params.yaml").read_text()
    (repository / "params.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    assert refused().startswith("params.yaml: changed and not committed; commit it")
    (repository / "params.yaml").write_text(text.replace("seed: 0", "seed: zero"))
    assert refused().startswith("params.yaml: seed = 'zero'")


def test_a_base_that_is_not_here(repository):
    assert refused("origin/HEAD").startswith("--base origin/HEAD: no commit that HEAD comes from; fetch it")


def test_a_graph_that_was_never_run(repository):
    toy.git(repository, "rm", "-q", "dvc.lock")
    toy.git(repository, "commit", "-qm", "none")
    assert refused().startswith("dvc.lock: not in git; run dvc repro once")


def test_outside_of_git(here):
    (here / "hardware_runners").mkdir()
    for name in ("params.yaml", "hardware_runners/plan.yaml"):
        shutil.copy(ROOT / name, here / name)
    assert refused().startswith("no commit of git here")


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing_in_the_workflows():
    done = subprocess.run(["actionlint", "-no-color"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_make_ci_report_and_gives_no_key_to_strangers():
    """No text of a pull request is in a script, and every job says what it may write."""
    text = (ROOT / ".github/workflows/benchmark.yml").read_text()
    workflow = yaml.safe_load(text)
    assert set(workflow[True]) == {"pull_request", "schedule", "workflow_dispatch"}  # YAML reads `on` as true
    assert workflow["permissions"] == {} and "pull_request_target" not in text
    for job in workflow["jobs"].values():
        runs = [step["run"] for step in job["steps"] if "run" in step]
        assert [run for run in runs if run.startswith("make ci-report")]
        assert not [run for run in runs if "${{" in run]
        assert job["permissions"]["contents"] == "read"
    makefile = (ROOT / "Makefile").read_text()
    assert {"BASE", "LINK", "BENCH"} <= {name for name in ("BASE", "LINK", "BENCH") if f"$({name})" in makefile}

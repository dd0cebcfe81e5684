"""Scores of clips in the report, and the table of a run beside the largest optical flow."""

import json
import shutil
from types import SimpleNamespace

import clips as toy
import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from matplotlib import pyplot as plt
from students import pictures

from edge.errors import UserError
from experiments import clips as table
from stages.common.dataset import Item, read_index, sha256, write_index
from stages.illustrate import clips
from stages.report import __main__ as report
from stages.report.formatting import NONE

VARIANTS = {"small": SimpleNamespace(role="student")}
EVALS = {"small": {"how": "measured", "size_bytes": 9, "threshold": 0.5}}


@pytest.fixture
def scored(here):
    """Four test clips, of which every second one is an anomaly in all frames, and scores that say so but once."""
    toy.write(here / "data/test", {"test": 4}, 96)
    items = read_index("data/test")
    scores = np.array([item.label * 0.8 + 0.01 * item.frame for item in items])
    (here / "artifacts/eval").mkdir(parents=True)
    np.savez(here / "artifacts/eval/small.npz", path=[i.path for i in items][::-1], score=scores[::-1])
    return items, scores


def test_every_clip_is_a_line_with_its_truth(scored, here, monkeypatch):
    drawn = []
    monkeypatch.setattr(clips, "over_time", lambda axes, frames, values, *rest: drawn.append((frames, values)))
    caption = clips.draw(VARIANTS, EVALS, here / "clips.png")
    assert caption.startswith("Score of small over time (measured)") and (here / "clips.png").stat().st_size > 1000
    items, scores = scored
    by_path = dict(zip([i.path for i in items], scores, strict=True))
    assert len(drawn) == 4
    for frames, values in drawn:
        assert [item.frame for item in frames] == list(range(toy.FRAMES))
        assert values == pytest.approx([by_path[item.path] for item in frames])


def test_a_line_shades_what_is_anomalous():
    frames = [SimpleNamespace(label=int(3 <= i < 6)) for i in range(9)]
    _, axes = plt.subplots()
    clips.over_time(axes, frames, np.linspace(0, 1, 9), 0.5, (0, 1))
    (shade,) = axes.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (3.5, 6.5)  # frames 4 to 6, counted from 1
    assert axes.lines[0].get_ydata().tolist() == np.linspace(0, 1, 9).tolist()
    plt.close("all")


def test_pictures_have_no_such_figure(here):
    (here / "data/test").mkdir(parents=True)
    cv2.imwrite("data/test/a.png", pictures(1, 32)[0])
    write_index(here / "data/test", [Item("a.png", "test", 0, "good", "", sha256(here / "data/test/a.png"), "a")])
    assert clips.draw(VARIANTS, EVALS, here / "clips.png") is None and not (here / "clips.png").exists()
    with pytest.raises(UserError, match="data/test: holds pictures, not clips"):
        table.run(SimpleNamespace(runs=[here], output=here / "x.json", dirty=True))


def test_the_largest_flow_tells_what_is_fast(scored, here):
    items = read_index("data/test")
    found = table.largest_flow(here / "data/test", items)
    for start in range(0, len(items), toy.FRAMES):
        assert found[start] == 0  # no frame before
    speed = {label: np.median([s for s, i in zip(found, items, strict=True) if i.label == label]) for label in (0, 1)}
    assert speed[0] == pytest.approx(1.5 * table.LAG, rel=0.5) and speed[1] > 1.5 * speed[0]


def run_of(here, name: str, micro: float, seed: int, **changed):
    """A run on the same clips with one evaluated variant."""
    folder = here / name
    shutil.copytree(here / "data", folder / "data")
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["variants"] = {"small": tree["variants"]["student-int8"]}
    tree["seed"] = seed
    tree["distill"] |= changed
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    auc = {"micro": micro, "micro_smoothed": 0.8, "comparison": dict.fromkeys(("micro_min_max", "macro"), 0.9)}
    auc["comparison"]["macro_padded"] = None
    one = {
        "variant": "small",
        "macs": 12_500_000,
        "fidelity": None,
        "video": {"frame_auc": auc, "rbdc": 0.5, "tbdc": None},
    }
    one["test_index_sha256"] = sha256(folder / "data/test/index.csv")
    (folder / "artifacts/eval").mkdir(parents=True)
    (folder / "artifacts/eval/small.json").write_text(json.dumps(one))
    (folder / "artifacts/eval/gone.json").write_text(json.dumps(one))  # of a variant that params.yaml lacks by now
    return folder


def test_the_table_holds_the_runs_and_the_yardstick(scored, here):
    runs = [run_of(here, "run0", 0.75, 0), run_of(here, "run1", 0.85, 1), run_of(here, "run2", 0.6, 0, epochs=3)]
    table.run(SimpleNamespace(runs=runs, output=here / "clips.json", dirty=True))
    text = table.markdown(here)
    figures = f"0.800 ± {np.std([0.75, 0.85], ddof=1):.3f} | 0.800 ± 0.000 | 0.500 ± 0.000 | {NONE} | 12.5"
    assert f"| small, 128 px, frames: 1 | 2 | {figures} |" in text
    assert "| small, 128 px, frames: 1 | 1 | 0.600 |" in text, "a run of other settings has a row of its own"
    assert "4 test clips, 48 frames, 24 of" in text and "gone" not in text
    found = json.loads((here / "clips.json").read_text())
    assert found["yardstick"]["frame_auc"]["micro"] > 0.8 and [one["seed"] for one in found["runs"]] == [0, 1, 0]


def test_runs_that_do_not_belong_together_are_refused(scored, here):
    first, second = run_of(here, "run0", 0.75, 0), run_of(here, "run1", 0.85, 1)
    with pytest.raises(UserError, match=r"run0: seed 0 of these settings is given twice"):
        table.record([first, second, first])
    toy.write(second / "data/test", {"test": 3}, 96)
    with pytest.raises(UserError, match=r"run1: has other test clips than .*run0"):
        table.record([first, second])
    with pytest.raises(UserError, match=r"run1: was judged on other test clips than it has"):
        table.record([second])


@pytest.mark.parametrize(
    ("source", "category", "heading"),
    [
        ("ucsd", "ped1", "ucsd ped1"),
        ("ucsd", "ped2", "ucsd ped2"),
        ("ucsd", "bottle", "ucsd"),  # the one that was there
        ("mvtec", "bottle", "mvtec bottle"),
        ("synthetic_clips", "bottle", "synthetic_clips"),
        ("avenue", "bottle", "avenue"),
    ],
)
def test_a_dataset_is_named_with_its_part(source, category, heading):
    assert report.named(source, category) == heading

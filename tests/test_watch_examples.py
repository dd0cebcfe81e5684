"""The examples are right, and the one of pedestrians reports what is to be seen in its video."""

import json
import shutil

import pytest
from conftest import ROOT

from edge.__main__ import main
from edge.event import from_json
from edge.watch.adopt import adopt
from edge.watch.site import read_site

EXAMPLES = sorted((ROOT / "examples").glob("*.json"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_right(path, capsys):
    assert main(["check", str(path), "--no-models"]) == 0
    assert f"{len(read_site(path).rules)} rules" in capsys.readouterr().out


def test_the_examples_together_have_most_kinds():
    kinds = {rule.kind for path in EXAMPLES for rule in read_site(path).rules}
    assert len(EXAMPLES) == 3 and len(kinds) >= 11


@pytest.mark.assets
@pytest.mark.slow
def test_pedestrians(assets, here, capsys):
    adopt("yolox", assets / "weights/yolox_nano/yolox_nano.onnx", here / "models/people")
    shutil.copy(ROOT / "examples/pedestrian.json", "site.json")
    shutil.copy(assets / "data/scenes/vtest.avi", "vtest.avi")
    assert main(["check", "site.json"]) == 0
    capsys.readouterr()
    assert main(["replay", "site.json", "vtest.avi", "--start", "2026-06-03 12:00", "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    events = [from_json(line.encode()) for line in lines]
    new = [event for event in events if event.phase == "new"]
    assert {event.rule for event in new} >= {"many people", "loitering in road", "line", "against_flow in side road"}
    assert len(new) == sum(event.phase == "end" for event in events)
    assert all(thing.label == "person" for event in events for thing in event.objects)
    summary = json.loads(last)["summary"]
    assert summary["frames"]["in"] == summary["frames"]["judged"] + summary["frames"]["spared"] == 795
    (figures,) = summary["contexts"].values()
    assert 5 <= figures["objects_per_frame"]["person"] <= 9

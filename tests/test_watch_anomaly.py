"""`watch` with an anomaly model: scores of zones, types of what is found, and models that it can't use."""

import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import sites
import tiny_models
import typed_models
from conftest import one_line
from watching import Kept, filmed, frames_of, video, watched

import edge
from edge.__main__ import main
from edge.defects.catalogue import open_catalogue, write_catalogue
from edge.errors import ModelError
from edge.inference.modelfile import write_model
from edge.watch.commands import Printer
from edge.watch.eyes import check_models
from edge.watch.rules_state import zone_score
from edge.watch.site import read_site
from edge.watch.watcher import Inputs, Watcher

pytestmark = pytest.mark.slow


@pytest.fixture
def site(here):
    return filmed(here)


def test_the_score_of_a_zone_that_is_the_whole_frame_is_that_of_the_model(site):
    model = tiny_models.build() / "float"
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    zones = [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}, sites.SMALL["zones"][0]]
    models = [{"name": "scene", "folder": str(model)}]
    sites.write(site, sites.small(cameras=[camera], zones=zones, models=models, rules=[{"rule": "anomaly"}]))
    looks = []
    watched(read_site("site.json"), Inputs(), seen=lambda scene: looks.append(scene.anomaly))
    detector = edge.load(model)
    zones = read_site("site.json").zones
    for frame, look in list(zip(frames_of("in.avi"), looks, strict=True))[::20]:
        assert zone_score(look, zones["all"]) == look.score == pytest.approx(detector.predict(frame).score)
        assert zone_score(look, zones["left"]) <= look.score


def test_an_anomaly_model_gives_score_threshold_and_model(site):
    model = tiny_models.build() / "float"
    raw = json.loads((model / "model.json").read_text())
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    still = {**camera, "motion": 20}
    models = [{"name": "scene", "folder": str(model)}]
    calm = {"rule": "anomaly", "threshold": 1e6}
    context = {"learn": True, "file": "learned.json", "least": 10}
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[calm], context=context))
    found = read_site("site.json")
    events, watcher = watched(found, Inputs())
    assert events == [] and watcher.eyes.counts["anomaly"] == 150
    found.contexts.save()
    assert len(json.loads((site / "learned.json").read_text())["contexts"]) == 8  # four of the frame, four of the zone
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly", "threshold": -1e6}]))
    events, _ = watched(read_site("site.json"), Inputs())
    assert events[0].phase == "new" and events[0].threshold == -1e6 and events[0].score is not None
    sites.write(site, sites.small(cameras=[still], models=models, rules=[calm]))
    _, watcher = watched(read_site("site.json"), Inputs())
    assert 5 <= watcher.eyes.counts["anomaly"] < 75  # while nothing moves, every two seconds
    assert events[0].model.name == raw["name"] and events[0].model.sha256 in raw["files"].values()


def inspected(site, frame, rules, **model):
    """The events of a watcher that sees a frame twice."""
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    right = {"name": "right", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}
    zones = [sites.SMALL["zones"][0], right]
    models = [{"name": "scene", "folder": "model", **model}]
    sites.write(site, sites.small(cameras=[camera], models=models, zones=zones, rules=rules))
    check_models(read_site("site.json"))
    sink = Kept()
    watcher = Watcher(read_site("site.json"), read_site("site.json").cameras[0], sink, live=False)
    for i in range(2):
        watcher.look(frame, i / 25, datetime(2026, 6, 3, 12, tzinfo=UTC))
    watcher.look(np.zeros_like(frame), 3, datetime(2026, 6, 3, 12, tzinfo=UTC))
    watcher.close()
    return sink.events


def test_an_anomaly_event_tells_the_type_of_what_is_in_its_zone(here, capsys):
    model = typed_models.write(here / "model")
    catalogue = typed_models.make_catalogue(here / "catalogue", model)
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[4:8, 2:6] = (180, 0, 0)
    frame[8:13, 10:15] = (0, 230, 0)  # brighter: of the frame as a whole it is a green one
    rules = [{"rule": "anomaly"}, {"rule": "anomaly", "name": "each", "zone": ["left", "right"]}]
    events = inspected(here, frame, rules, types="catalogue")
    assert [(event.rule, event.zone, event.defect.type) for event in events if event.phase == "new"] == [
        ("anomaly", None, "green"),
        ("each", "left", "red"),
        ("each", "right", "green"),
    ]
    told = edge.load(model, types=catalogue).predict(frame).type.to_json()
    for event in (event for event in events if event.rule == "anomaly"):  # the end tells what it was
        assert json.loads(event.to_json())["data"]["defect"] == told
    assert {event.phase for event in events} == {"new", "end"}
    Printer(False).send(events[0])
    assert capsys.readouterr().out.rstrip().endswith(f"  green ({told['distance']:.2f})")
    (event, *_) = inspected(here, frame, rules)
    assert event.defect is None and "defect" not in json.loads(event.to_json())["data"]


def test_a_type_is_told_where_the_threshold_is_the_rules_own(here):
    typed_models.make_catalogue(here / "catalogue", typed_models.write(here / "model"))
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[4:8, 2:6] = (60, 0, 0)  # good by the model's threshold
    (event, *_) = inspected(here, frame, [{"rule": "anomaly", "threshold": 0.02}], types="catalogue")
    assert event.score < 0.15 and event.defect.type == "red"


def test_names_of_a_catalogue_that_no_event_holds_are_cut(here):
    model = typed_models.write(here / "model")
    typed_models.make_catalogue(here / "catalogue", model)
    known = open_catalogue(here / "catalogue")
    points = [replace(p, type=f"red{'!' * 197}", picture=f"{'x' * 300}\n/{p.picture}") for p in known.points]
    shutil.rmtree(here / "catalogue")
    (here / "catalogue").mkdir()
    write_catalogue(here / "catalogue", known.rules, known.vectors, points)
    (event, *_) = inspected(here, typed_models.spot("red", 5)[0], [{"rule": "anomaly"}], types="catalogue")
    assert len(event.defect.type) == 200 and event.defect.type.startswith("red!")
    assert re.fullmatch(r"x+\\n/(red|green|blue)/\d\.png", event.defect.nearest[0].picture)


@pytest.mark.parametrize(
    ("types", "changes", "message"),
    [
        ("none", {}, "none/catalogue.json: not found"),
        ("other", {}, "other: made with the model"),
        ("catalogue", {"objects": "scene", "anomaly": None}, "task = 'anomaly'"),
    ],
)
def test_a_catalogue_is_checked_with_its_model(here, capsys, types, changes, message):
    typed_models.make_catalogue(here / "catalogue", typed_models.write(here / "model"))
    typed_models.make_catalogue(here / "other", typed_models.write(here / "another", seed=1))
    video(here / "in.avi", 0.2)
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", **changes}
    models = [{"name": "scene", "folder": "model", "types": types}]
    rules = [{"rule": "anomaly"}] if camera["anomaly"] else []
    site = sites.write(here, sites.small(cameras=[camera], models=models, rules=rules))
    assert main(["check", site]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    camera.update(anomaly="scene", objects=None)
    models[0]["types"] = "catalogue"
    site = sites.write(here, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly"}]))
    assert main(["check", site]) == 0


def test_a_letterboxed_frame_fills_its_map(here):
    """A zone is one of the frame, not of the model's input, half of which such a frame leaves empty."""
    typed_models.write(here / "model", resize="letterbox")
    frame = np.zeros((16, 32, 3), np.uint8)
    frame[13:, 20:24] = 230
    low = {"name": "low", "polygon": [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]}
    high = {"name": "high", "polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]}
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene", "rate": 25, "motion": 0}
    models = [{"name": "scene", "folder": "model"}]
    rules = [{"rule": "anomaly", "zone": ["low", "high"]}]
    sites.write(here, sites.small(cameras=[camera], models=models, zones=[low, high], rules=rules))
    sink, looks = Kept(), []
    found = read_site("site.json")
    watcher = Watcher(found, found.cameras[0], sink, live=False, seen=lambda scene: looks.append(scene.anomaly))
    watcher.look(frame, 0.0, datetime(2026, 6, 3, 12, tzinfo=UTC))
    assert [event.zone for event in sink.events] == ["low"]
    assert np.array_equal(looks[0].map, edge.load("model").predict(frame).raw_map)


def test_a_model_with_a_state_is_refused(site):
    """It would have to see every frame."""
    folder = shutil.copytree(tiny_models.build() / "float", site / "model")
    grid = {"dtype": "float32", "scale": 1.0, "zero_point": 0}
    state = {"input": "memory", "output": "next", "shape": [1, 4], **grid}
    write_model(folder, json.loads((folder / "model.json").read_text()) | {"state": [state]})
    camera = {"name": "cam", "source": "in.avi", "anomaly": "scene"}
    models = [{"name": "scene", "folder": "model"}]
    sites.write(site, sites.small(cameras=[camera], models=models, rules=[{"rule": "anomaly"}]))
    with pytest.raises(ModelError, match=r"cameras\.0: the model scene has a state, which has to see every") as caught:
        check_models(read_site("site.json"))
    one_line(caught)

"""site.json: every field is checked, and what is wrong is one line with its path, its value and what is allowed."""

import copy
import json
import random
from pathlib import Path

import pytest
import sites
from conftest import one_line

from edge.__main__ import main
from edge.errors import UserError
from edge.watch.rules import KINDS
from edge.watch.site import parse, read_site

WRONG = (
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    2**70,
    "",
    " ",
    "x" * 300,
    "nobody",
    "99:99",
    "../../x",
    "\u0000",
    [],
    [[]],
    {},
    [1],
)


def places(tree, path=()):
    """The path of every value inside."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(tree, path, change):
    tree = copy.deepcopy(tree)
    at = tree
    for key in path[:-1]:
        at = at[key]
    change(at, path[-1])
    return tree


def check(here, capsys, site):
    """The exit status of `check` and what it wrote to standard error."""
    status = main(["check", sites.write(here, site), "--no-models"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, err if status else out


def parsed(site):
    """As `check`, without the command."""
    try:
        parse(Path("site.json"), site)
    except UserError as error:
        return 1, f"error: {error}\n"
    return 0, ""


def test_a_site_with_everything_is_taken(here, capsys):
    status, text = check(here, capsys, sites.whole())
    assert status == 0 and text == f"{here}/site.json: 2 cameras, 4 zones, 16 rules\n"
    site = read_site("site.json")
    assert {rule.kind for rule in site.rules} == set(KINDS)
    assert [rule.kind for rule in site.rules][-1] == "hybrid"
    assert [rule.name for rule in site.rules_of(site.cameras[1])] == ["camera_covered", "presence in gate"]


def test_the_short_rule_is_taken_as_written(here):
    rule = {"object": "person", "zone": "entrance", "time_after": "22:00", "action": "alert"}
    sites.write(here, sites.whole(rules=[rule]))
    (found,) = read_site("site.json").rules
    assert (found.kind, found.name, found.common.objects) == ("presence", "presence in entrance", ("person",))
    assert found.common.cameras == ("door",) and found.common.action == "alert"


def test_a_file_in_which_any_value_is_wrong_is_one_line():
    """Every value by every wrong one: hundreds of files, of which some are still right."""
    refused = 0
    rng = random.Random(0)
    for path in places(sites.WHOLE):
        for value in rng.sample(WRONG, 5):

            def change(at, key, value=value):
                at[key] = value

            status, text = parsed(changed(sites.WHOLE, path, change))
            if status:
                refused += 1
                assert text.startswith("error: site.json: ") and text.count("\n") == 1, (path, value, text)
    assert refused > 500


def test_a_file_without_a_value_or_with_one_too_many_is_one_line():
    refused = 0
    for path in places(sites.WHOLE):
        status, text = parsed(changed(sites.WHOLE, path, lambda at, key: at.pop(key)))
        refused += status
        assert status == 0 or (text.startswith("error: ") and text.count("\n") == 1), text
        if isinstance(path[-1], str):

            def add(at, key):
                at[key + "x"] = at[key]

            status, text = parsed(changed(sites.WHOLE, path, add))
            named = ".".join(map(str, (*path[:-1], path[-1] + "x")))
            if path[0] not in ("schedules",) and path[-2:-1] != ("seconds",):
                assert status == 1 and (f": {named}: unknown field" in text or named in text), (path, text)
    assert refused > 50


def test_a_file_of_broken_bytes_is_one_line(here, capsys):
    text, rng = json.dumps(sites.WHOLE).encode(), random.Random(1)
    for _ in range(150):
        data = bytearray(text)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(0, 3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(0, 3)))
        (here / "site.json").write_bytes(data)
        status = main(["check", "site.json", "--no-models"])
        _, err = capsys.readouterr()
        assert status in (0, 1) and err.count("\n") == status and "Traceback" not in err


MESSAGES = [
    (("zones", 0, "polygon", 1, 0), 1.5, "zones.0.polygon.1.0 = 1.5: must be a finite number of at least 0 and at"),
    (("zones", 0, "polygon"), [[0, 0], [1, 1]], "zones.0.polygon = "),
    (("zones", 0, "polygon"), [[0, 0], [1, 1], [0.5, 0.5]], "a polygon that encloses an area"),
    (("zones", 0, "camera"), "cellar", "zones.0.camera = 'cellar': must be the name of a camera: door, yard"),
    (("zones", 1, "name"), "entrance", "zones.1.name = 'entrance': must be different from all others"),
    (("zones", 0, "flow"), [0, 0], "zones.0.flow"),
    (("zones", 0, "metres"), [6, 0], "zones.0.metres"),
    (("lines", 0, "to"), [0.1, 0.9], "lines.0.to = [0.1, 0.9]: must be another point than from"),
    (("cameras", 0, "objects"), "cats", "cameras.0.objects = 'cats': must be the name of a model, or 'motion': people"),
    (("cameras", 0, "rate"), 0, "cameras.0.rate = 0: must be a finite number above 0"),
    (("cameras", 1, "source"), 10**6, "cameras.1.source = 1000000: must be a whole number"),
    (("timezone",), "Mars/Olympus", "timezone = 'Mars/Olympus': must be the name of an IANA time zone"),
    (("rules", 0, "zone"), "cellar", "rules.0.zone = 'cellar': must be the name of a zone: entrance, checkout"),
    (("rules", 0, "rule"), "magic", "rules.0.rule = 'magic': must be 'presence' or 'absence'"),
    (("rules", 0, "time_after"), "10 pm", "rules.0.time_after = '10 pm': must be a time of day \"HH:MM\""),
    (("rules", 0, "time_after"), "24:00", "at most 23:59"),
    (("rules", 0, "action"), "shout", "rules.0.action = 'shout': must be 'alert' or 'record' or 'log' or 'signal'"),
    (("rules", 1, "name"), "odd", "rules.1.name = 'odd': must be different from all others"),
    (("rules", 2, "seconds"), {"person": 60}, "rules.2.seconds"),
    (("rules", 3, "at_most"), 9, "rules.3.at_most: one of at_least, at_most, exactly must be given"),
    (("rules", 3, "days"), ["monday"], "rules.3.days.0 = 'monday': must be 'mon' or"),
    (("rules", 5, "zone"), "shelf", "rules.5.zone = 'shelf': must be a zone with a flow"),
    (("rules", 6, "zone"), "shelf", "rules.6.zone = 'shelf': must be a zone with metres"),
    (("rules", 6, "heights_per_second"), 1, "rules.6.heights_per_second: one of"),
    (("rules", 7, "line"), "fence", "rules.7.line = 'fence': must be the name of a line: threshold"),
    (("rules", 9, "via"), "gate", "rules.9.via = 'gate': must be a zone of the same camera"),
    (("rules", 13, "sensor"), None, "rules.13.sensor: missing field"),
    (("rules", 14, "signals", 0, "rule"), "nothing", "rules.14.signals.0.rule = 'nothing': must be the name of a rule"),
    (("rules", 14, "camera"), "yard", "rules.14.signals.0.rule = 'after hours': must be the name of a rule of this"),
    (("rules", 14, "anomaly"), 0.9, "its weights and anomaly add up to 1 at most, not 1.4"),
    (("context", "states"), ["dusk"], "states = ['dusk']: must be names of schedules: opening hours, night"),
    (("context", "file"), None, "context.file: missing field"),
    (("load", "calm"), 0.9, "load.calm = 0.9: must be below busiest, 0.8"),
    (("privacy", "zones"), [[0.9, 0, 0.2, 0.2]], "privacy.zones.0 = [0.9, 0, 0.2, 0.2]: must be"),
    (("cameras", 0, "pose"), None, "cameras.0.pose: missing field; the rule 'fall' needs it"),
]  # fmt: skip


@pytest.mark.parametrize("path, value, message", MESSAGES)
def test_what_is_said(here, capsys, path, value, message):
    def change(at, key):
        at[key] = value

    status, text = check(here, capsys, changed(sites.WHOLE, path, change))
    assert status == 1 and message in text


@pytest.mark.parametrize("content", ["[]", "null", '"x"', "{}", "{", "[" * 100, '{"cameras": []}'])
def test_what_is_no_site(here, capsys, content):
    (here / "site.json").write_text(content)
    assert main(["check", "site.json"]) == 1
    assert capsys.readouterr().err.startswith("error: site.json: ")


def test_no_file(here):
    with pytest.raises(UserError) as caught:
        read_site("nothing.json")
    assert one_line(caught) == "nothing.json: no such file; give the site.json"


def test_model_folders_are_looked_at(here, capsys):
    assert main(["check", sites.write(here, sites.whole())]) == 1
    assert f"privacy.faces: {here}/yunet.onnx: no such file" in capsys.readouterr().err
    assert main(["check", sites.write(here, sites.whole(privacy=None))]) == 1
    assert f"{here}/models/people: no such model folder" in capsys.readouterr().err

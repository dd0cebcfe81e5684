"""The rule language: sentences to exact JSON, and what is refused with the words that were not understood."""

import json
from pathlib import Path

import pytest
from conftest import ROOT, one_line

from edge.__main__ import main
from edge.inference.fields import Fields
from edge.watch import rules
from edge.watch.language import to_rule
from edge.watch.phrases import Known, NotUnderstood
from edge.watch.rule import Names
from edge.watch.schedule import time_zone
from edge.watch.words import CLASSES


def lines(name):
    """The lines of a file of sentences but its comment."""
    return [line for line in (ROOT / "tests" / name).read_text().splitlines() if not line.startswith("#")]


PHRASES = [line.split(" => ") for line in lines("rule_phrases.txt")]
REFUSALS = [line.rsplit(" | ", 1) for line in lines("rule_refusals.txt")]
KNOWN = Known(
    zones=("Store Room", "Loading Bay 2", "after-sales desk"),
    lines=("Front Door",),
    schedules=("opening hours",),
    sensors=("back door",),
    cameras=("yard",),
)


def test_there_are_enough():
    assert len({sentence for sentence, _ in PHRASES}) >= 200 and len({sentence for sentence, _ in REFUSALS}) >= 100


@pytest.mark.parametrize("sentence, rule", PHRASES, ids=[sentence for sentence, _ in PHRASES])
def test_a_sentence_is_this_rule(sentence, rule):
    assert to_rule(sentence) == json.loads(rule)


@pytest.mark.parametrize("sentence, rule", PHRASES, ids=[sentence for sentence, _ in PHRASES])
def test_what_comes_out_is_a_rule_of_a_site(sentence, rule):
    """All but what the site has to know: schedules, sensors and cameras."""
    fields = {k: v for k, v in to_rule(sentence).items() if k not in ("schedule", "outside", "camera")}
    names = Names(time_zone("UTC"), sensors=(fields.get("sensor", ""),), any_zone=True)
    made = Fields(Path("site.json"), fields).parsed(lambda at: rules.parse(at, names))
    assert made.kind == json.loads(rule).get("rule", "presence")


@pytest.mark.parametrize("sentence, words", REFUSALS, ids=[sentence for sentence, _ in REFUSALS])
def test_what_is_refused_is_named(sentence, words):
    with pytest.raises(NotUnderstood) as caught:
        to_rule(sentence)
    message = one_line(caught)
    assert message.startswith(sentence) and words in message[len(sentence) :]


@pytest.mark.parametrize(
    "sentence, part",
    [
        ("alert me if a person enters the store room", {"zone": "Store Room"}),
        ("alert me if a person is in loading bay 2 after 10 pm", {"zone": "Loading Bay 2", "time_after": "22:00"}),
        ("alert me if a person loiters at the after-sales desk for 9 s", {"zone": "after-sales desk", "seconds": 9}),
        ("alert me if a person crosses the front door inwards", {"line": "Front Door", "direction": "in"}),
        ("alert me if a person enters the store room outside opening hours", {"outside": "opening hours"}),
        ("alert me if the back door sensor is open", {"sensor": "back door"}),
        ("alert me if the store room is empty", {"zone": "Store Room", "rule": "absence"}),
        ("alert me if a person is in the store room on camera yard", {"camera": "yard"}),
    ],
)
def test_names_of_a_site(sentence, part):
    assert to_rule(sentence, KNOWN).items() >= part.items()


@pytest.mark.parametrize(
    "sentence, words",
    [
        ("alert me if a person enters the kitchen", "kitchen"),
        ("alert me if a person enters the store", "Loading Bay 2"),
        ("alert me if a person crosses the back door", "Front Door"),
        ("alert me if a person enters the store room outside business hours", "opening hours"),
        ("alert me if the window sensor is open", "back door"),
        ("alert me if the kitchen is empty", "Store Room"),
    ],
)
def test_names_that_a_site_lacks(sentence, words):
    with pytest.raises(NotUnderstood, match=words):
        to_rule(sentence, KNOWN)


@pytest.mark.parametrize("word", sorted(CLASSES))
def test_every_object_is_a_word(word):
    rule = to_rule(f"alert me if more than 2 {word} are in the hall")
    objects = rule.get("object", [])
    assert tuple([objects] if isinstance(objects, str) else objects) == CLASSES[word] and rule["at_least"] == 3


@pytest.mark.parametrize(
    "text", ["", " ", ",", "\0", "a" * 501, "alert me if " * 40, "\ud800", "'", '"', "10", "- - -"]
)
def test_what_is_no_sentence(text):
    with pytest.raises(NotUnderstood) as caught:
        to_rule(text)
    one_line(caught)


def test_the_command(capsys):
    assert main(["rule", "alert me if a person enters the entrance after 10 pm"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"object": "person", "zone": "entrance", "time_after": "22:00", "action": "alert"}
    assert "not checked" in err and "midnight" in err
    assert main(["rule", "alert me if a unicorn enters the entrance"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "unicorn" in err and err.count("\n") == 1

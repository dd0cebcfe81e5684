"""Thresholds for false-alarm rates: against distributions whose quantiles are known, and on the device."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tiny_models
from conftest import ROOT, one_line
from scipy import stats
from test_edge_outputs import refused
from test_params import changed

from edge.__main__ import main
from edge.errors import UserError
from edge.inference.detector import load
from edge.inference.modelfile import open_model, write_model
from stages.common import params
from stages.compile import thresholds
from stages.evaluate.metrics import confusion

KNOWN = {  # shape of the tail: none, light, heavy, bounded
    "exponential": stats.expon(),
    "normal": stats.norm(3, 0.5),
    "Student": stats.t(4),
    "bounded": stats.genpareto(-0.3),
}
METHODS = ("quantile", "tail")


def true_rates(method: str, distribution, pictures: int, rate: float, times: int, seed: int = 0) -> np.ndarray:
    """The true rate of the threshold and both ends of its interval [times, 3], over so many samples."""
    rng, find = np.random.default_rng(seed), thresholds.METHODS[method]
    found = (find(distribution.rvs(pictures, random_state=rng), (rate,), i)[0] for i in range(times))
    return np.array([(distribution.sf(one.value), one.low, one.high) for one in found])


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(("pictures", "rate"), [(24, 0.05), (48, 0.1), (114, 0.02), (400, 0.01)])
def test_a_quantile_lets_through_its_rate_on_average(name, pictures, rate):
    """Numpy's default quantile lets through more, of few pictures twice as much."""
    found = true_rates("quantile", KNOWN[name], pictures, rate, 400)
    error = found[:, 0].std() / 20
    assert found[:, 0].mean() == pytest.approx(rate, abs=4 * error)
    rng = np.random.default_rng(0)
    default = [np.quantile(KNOWN[name].rvs(pictures, random_state=rng), 1 - rate) for _ in range(400)]
    assert KNOWN[name].sf(default).mean() > rate + 2 / 3 * (1 - rate) / pictures


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(("pictures", "rate"), [(24, 0.02), (48, 0.001), (114, 0.02), (400, 0.1)])
def test_the_interval_of_a_quantile_holds_its_true_rate(name, pictures, rate):
    """In 95 of 100 samples or more, whatever the scores are distributed like."""
    rate_, low, high = true_rates("quantile", KNOWN[name], pictures, rate, 400).T
    inside = (low <= rate_) & (rate_ <= high)
    assert inside.mean() > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)


@pytest.mark.parametrize(("pictures", "rate", "place"), [(24, 0.02, 24), (99, 0.05, 95), (99, 0.5, 50), (9, 0.001, 9)])
def test_a_score_as_threshold_has_the_interval_of_its_rank(pictures, rate, place):
    """Of the k-th lowest of n, against the binomial distribution: the true rate p is at one end of the interval where
    so many or more (fewer) of n pictures lie above with a chance of 2.5 %."""
    scores = np.random.default_rng(1).permutation(np.arange(1, pictures + 1.0))
    (found,) = thresholds.by_quantile(scores, (rate,))
    assert found.value == place
    above = pictures - place
    assert stats.binom.cdf(above, pictures, found.high) == pytest.approx(0.025)
    assert stats.binom.sf(above, pictures, found.low) == pytest.approx(0.025)


def test_none_above_has_the_upper_end_of_clopper_and_pearson():
    for pictures in (1, 24, 48, 3000):
        (found,) = thresholds.by_quantile(np.arange(float(pictures)), (1e-6,))
        expected = stats.binomtest(0, pictures).proportion_ci(0.95, "exact").high
        assert found.high == pytest.approx(expected) and found.value == pictures - 1 and not found.shown


def test_how_many_pictures_show_a_rate():
    assert not thresholds.shows(48, 0.001) and not thresholds.shows(98, 0.01) and thresholds.shows(99, 0.01)
    found = thresholds.by_quantile(np.arange(48.0), thresholds.RATES)
    assert [one.shown for one in found] == [False, False, True, True]


def test_equal_scores_have_one_threshold():
    found = thresholds.by_quantile(np.full(40, 0.7), thresholds.RATES)
    assert {one.value for one in found} == {0.7}
    counts = confusion(np.zeros(40, bool), np.full(40, 0.7), 0.7)
    assert counts == {"found": 0, "missed": 0, "false_alarms": 0, "passed": 40}


# the tail


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.25])
def test_the_fit_finds_the_shape_and_scale_of_a_generalised_pareto(shape):
    """Of many excesses, as scipy's maximum likelihood does; of [..., k] each row by itself."""
    excesses = stats.genpareto.rvs(shape, scale=2, size=(2, 20_000), random_state=3)
    shapes, scales = thresholds.fit_tail(excesses)
    np.testing.assert_allclose(shapes, shape, atol=0.04)
    np.testing.assert_allclose(scales, 2, rtol=0.04)
    fitted, _, scale = stats.genpareto.fit(excesses[0], floc=0)
    assert (fitted, scale) == pytest.approx((shapes[0], scales[0]), abs=0.06)


@pytest.mark.parametrize("name", KNOWN)
def test_many_pictures_give_the_known_quantile(name):
    """With an interval that holds it where the tail is a generalised Pareto distribution from the level on."""
    scores = KNOWN[name].rvs(20_000, random_state=5)
    found = thresholds.by_tail(scores, (0.001, 0.01, 0.05))
    for one, factor in zip(found, (2.5, 1.15, 1.06), strict=True):
        true = KNOWN[name].sf(one.value)
        assert one.rate / factor < true < one.rate * factor
        assert one.low < true < one.high or name in ("normal", "Student")


@pytest.mark.parametrize("name", KNOWN)
def test_the_tail_goes_where_few_pictures_show_nothing(name):
    """48 pictures and a rate of 0.1 %: above the highest score lie 2 %, above the tail's threshold far fewer."""
    tail = true_rates("tail", KNOWN[name], 48, 0.001, 120)[:, 0]
    highest = true_rates("quantile", KNOWN[name], 48, 0.001, 120)[:, 0]
    assert highest.mean() == pytest.approx(1 / 49, rel=0.3)
    assert np.abs(tail - 0.001).mean() < 0.6 * np.abs(highest - 0.001).mean()


@pytest.mark.parametrize("name", KNOWN)
def test_the_true_rate_of_a_tail_is_seldom_above_its_interval(name):
    rate, _, high = true_rates("tail", KNOWN[name], 114, 0.01, 150).T
    assert (rate <= high).mean() > 0.88


def test_a_rate_above_the_tail_has_the_quantile():
    scores = np.random.default_rng(0).exponential(size=200)
    assert thresholds.by_tail(scores, (0.4,)) == thresholds.by_quantile(scores, (0.4,))
    assert thresholds.by_tail(scores, (0.01,), 7) == thresholds.by_tail(scores, (0.01,), 7)


def test_too_few_pictures_have_no_tail():
    with pytest.raises(UserError) as caught:
        thresholds.find(np.arange(39.0), 0.01, "tail", 0)
    assert "needs 40 good validation pictures, and here are 39; set quantile" in one_line(caught)
    assert thresholds.find(np.arange(40.0), 0.01, "tail", 0)["good"] == 40
    with pytest.raises(UserError, match=r"are all equal; set quantile"):
        thresholds.find(np.ones(60), 0.01, "tail", 0)


# what is said


@pytest.mark.parametrize("method", METHODS)
def test_what_few_pictures_cannot_show_is_said(method):
    scores = np.random.default_rng(0).normal(size=48)
    found = thresholds.find(scores, 0.001, method, 0)
    assert "48 pictures can't show less than 2.04 %" in found["method"] and "false-alarm rate 0.1 %" in found["method"]
    assert ("extrapolated" if method == "tail" else "the highest score") in found["method"]
    assert [one["rate"] for one in found["rates"]] == [0.001, 0.01, 0.02, 0.05, 0.1]
    assert found["value"] == found["rates"][0]["value"] and found["rate"] == 0.001
    values = [one["value"] for one in found["rates"]]
    assert values == sorted(values, reverse=True)
    enough = thresholds.find(scores, 0.05, method, 0, groups=48)["method"]
    assert "can't show" not in enough and "parts or clips" not in enough
    assert "of 6 parts or clips" in thresholds.find(scores, 0.05, method, 0, groups=6)["method"]
    assert thresholds.find(scores, 0.05, method, 0, groups=1)["method"].endswith("but they are of one part or clip")


def test_the_former_key_is_refused_in_a_line_that_names_the_present_one():
    with pytest.raises(UserError) as caught:
        params.validate(changed({"compile.threshold_quantile": 0.98}))
    assert "threshold_quantile is now false_alarm_rate, 1 - quantile: 0.02 instead of 0.98" in one_line(caught)


@pytest.mark.parametrize(
    ("key", "value"),
    [("false_alarm_rate", 0), ("false_alarm_rate", 0.6), ("false_alarm_rate", "2 %"), ("threshold", "median")],
)
def test_wrong_values_are_refused(key, value):
    with pytest.raises(UserError, match=rf"compile\.{key}"):
        params.validate(changed({f"compile.{key}": value}))


def test_counts_are_those_of_the_device():
    """A float32 score that equals the threshold is good, whatever numpy would round."""
    scores = np.array([0.1, 0.3, 0.3, 0.9], np.float32)
    labels = np.array([False, True, False, True])
    assert confusion(labels, scores, float(np.float32(0.3))) == dict(found=1, missed=1, false_alarms=0, passed=2)
    assert confusion(labels, scores, 0.3)["false_alarms"] == int(float(np.float32(0.3)) > 0.3)


# on the device


@pytest.fixture
def former(here):
    """A model folder that knows no rates, beside a picture."""
    cv2.imwrite("in.png", np.full((20, 20, 3), 90, np.uint8))
    return shutil.copytree(tiny_models.build() / "int8", here / "model")


@pytest.fixture
def model(former):
    """A model that takes the picture for good at its own rate, 2 %, and for a defect at 10 %."""
    score = load(former).predict(np.full((20, 20, 3), 90, np.uint8)).score
    rates = [
        {"rate": 0.02, "value": score + 0.1, "low": 0.0, "high": 0.14, "shown": False},
        {"rate": 0.1, "value": score - 0.1, "low": 0.01, "high": 0.3, "shown": True},
    ]
    raw = json.loads((former / "model.json").read_text())
    threshold = {"value": score + 0.1, "method": "for the test", "rate": 0.02, "good": 24, "rates": rates}
    write_model(former, {**raw, "threshold": threshold})
    return former


@pytest.mark.parametrize(("word", "verdict"), [(None, "good"), ("0.02", "good"), ("0.1", "defect"), ("1e-1", "defect")])
def test_a_device_may_choose_another_rate(model, word, verdict, capsys):
    options = [f"--false-alarm-rate={word}"] if word else []
    assert main(["predict", str(model), "in.png", "--csv", *options]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(f",{verdict}")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("0.03", "no threshold for a false-alarm rate of 0.03; it has 0.02, 0.1"),
        ("0", "--false-alarm-rate 0: must be above 0"),
        ("-1", "--false-alarm-rate -1: must not be negative"),
        ("nan", "--false-alarm-rate nan: must be a number"),
        ("2", "--false-alarm-rate 2: must be at most 1"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "video"])
def test_a_rate_that_the_model_lacks_is_one_line(model, command, word, message, capsys):
    refused(capsys, [command, str(model), "in.png", f"--false-alarm-rate={word}"], message)


def test_a_folder_from_before_says_that_it_has_no_rates(former, capsys):
    assert open_model(former).rates == ()
    refused(capsys, ["predict", str(former), "in.png", "--false-alarm-rate=0.02"], "it has none; build the model again")


def test_info_lists_the_rates(model, capsys):
    assert main(["info", str(model)]) == 0
    out = capsys.readouterr().out
    assert "for a false-alarm rate of 0.02: true rate 0 to 0.14, too small to be shown by" in out
    assert "for a false-alarm rate of 0.1: true rate 0.01 to 0.3\n" in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": [{"rate": 2.0, "value": 0.0, "low": 0.0, "high": 1.0, "shown": True}]}, r"rates\.0\.rate = 2\.0"),
        ({"rates": [{"rate": 0.1, "value": 0.0, "low": 0.0, "high": 1.0, "shown": 1}]}, r"rates\.0\.shown = 1"),
        ({"rates": [{"rate": 0.1}]}, r"rates\.0\.low: missing field"),
        ({"rates": {}}, r"threshold\.rates = \{\}: must be a list"),
        ({"good": 0}, r"threshold\.good = 0: must be a whole number of at least 1"),
        ({"rate": -1}, r"threshold\.rate = -1"),
        ({"rote": 1}, r"threshold\.rote: unknown field"),
    ],
)
def test_what_a_model_says_of_its_rates_is_checked(model, change, message):
    raw = json.loads((model / "model.json").read_text())
    with pytest.raises(UserError, match=message):
        write_model(model, {**raw, "threshold": raw["threshold"] | change})


def test_the_default_is_a_rate_that_every_model_knows():
    tracked = params.validate(params.read_yaml(ROOT / "params.yaml")).compile
    assert tracked.false_alarm_rate in thresholds.RATES and tracked.threshold in thresholds.METHODS

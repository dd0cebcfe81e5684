"""Image thresholds for false-alarm rates, from the scores of good validation pictures alone, with what they can show.

The rate of a threshold is the share of all good pictures like these that lie above it. Pictures are taken for
independent: of several frames of a clip or shots of a part, the intervals are too narrow.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import beta, genpareto

from edge.errors import UserError
from stages.common.shares import percent

RATES = (0.01, 0.02, 0.05, 0.1)  # whose thresholds every model knows, beside that of params
CONFIDENCE = 0.95
ENDS = np.array([1 - CONFIDENCE, 1 + CONFIDENCE]) / 2
TAIL = 0.25  # share of the scores that is the tail: a choice, the textbooks' 0.1 leaves too few of some dozen
LEAST = 10  # scores in the tail: a choice, of fewer the shape is noise
FLATTEST = -0.5  # shape of the tail; below, the fit says that nothing lies beyond scores that were seen (Smith, 1985)
DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class RateThreshold:
    """The threshold for a false-alarm rate; `low` and `high`: confidence interval of its true rate; `shown`: whether so
    many pictures can show a rate as small as this."""

    rate: float
    value: float
    low: float
    high: float
    shown: bool


def by_quantile(scores: np.ndarray, rates: tuple[float, ...], seed: int = 0) -> list[RateThreshold]:
    """Quantiles of the scores [n], so that a new picture lies above with the chance `rate`, averaged over samples.

    1 - F of the k-th lowest of n scores is distributed as Beta(n - k + 1, k), whatever F is (David and Nagaraja, Order
    Statistics, 2003, 2.2), with mean 1 - k / (n + 1): hence numpy's "weibull", not its default, above which lie twice
    as many of two dozen. Between two scores the interval is that of both. The highest score shows 1 / (n + 1); for
    less it is the threshold all the same, and its interval that of Clopper and Pearson (1934) for none of n. Ties
    only lower the true rate.
    """
    n, found = len(scores), []
    for rate in rates:
        place = min(max((n + 1) * (1 - rate), 1), n)
        below, above = int(np.floor(place + 1e-9)), int(np.ceil(place - 1e-9))
        low, high = beta.ppf(ENDS[0], n - above + 1, above), beta.ppf(ENDS[1], n - below + 1, below)
        value = float(np.quantile(scores, 1 - rate, method="weibull"))
        found.append(RateThreshold(rate, value, float(low), float(high), shows(n, rate)))
    return found


def by_tail(scores: np.ndarray, rates: tuple[float, ...], seed: int = 0) -> list[RateThreshold]:
    """Thresholds from a generalised Pareto distribution of what the highest scores exceed a level by (peaks over
    threshold: Pickands, Annals of Statistics 3, 1975; Coles, 2001, ch. 4; for detectors Siffer et al., KDD 2017).

    It goes beyond the highest score, on the assumption that the tail goes on as it is. The intervals are those of a
    parametric bootstrap. A rate above the tail's share has the quantile. UserError for too few scores.
    """
    n = len(scores)
    count = int(n * TAIL)
    if count < LEAST:
        raise UserError(
            f"compile.threshold: tail needs {int(np.ceil(LEAST / TAIL))} good validation pictures, and here are {n}; "
            "set quantile, or raise data.val_fraction"
        )
    ordered = np.sort(np.asarray(scores, float))
    level, excesses = ordered[-count - 1], ordered[-count:] - ordered[-count - 1]
    if excesses[-1] == excesses[0]:
        raise UserError("compile.threshold: the highest scores of good validation pictures are all equal; set quantile")
    shape, scale = fit_tail(excesses)
    share = (count + 1) / (n + 1)  # expected above the level, which is a score
    rng = np.random.default_rng(seed)
    shapes, scales = fit_tail(genpareto.rvs(shape, scale=scale, size=(DRAWS, count), random_state=rng))
    shares = rng.beta(count + 1, n - count, DRAWS)
    found = []
    for rate, quantile in zip(rates, by_quantile(scores, rates), strict=True):
        if rate >= share:
            found.append(quantile)
            continue
        value = genpareto.isf(rate / share, shape, scale=scale)
        again = genpareto.isf(rate / share, shapes, scale=scales)
        low, high = np.quantile(shares * genpareto.sf(again, shape, scale=scale), ENDS)
        found.append(RateThreshold(rate, float(level + value), float(low), float(high), shows(n, rate)))
    return found


def fit_tail(excesses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shape and scale of the generalised Pareto distribution of excesses [..., k], by probability-weighted moments,
    which are better than maximum likelihood below some hundred (Hosking and Wallis, Technometrics 29, 1987)."""
    ordered = np.sort(excesses, axis=-1)
    count = ordered.shape[-1]
    mean = ordered.mean(-1)
    spread = 2 * (ordered * np.arange(count) / (count - 1)).mean(-1) - mean  # the second L-moment
    shape = np.maximum(2 - mean / spread, FLATTEST)
    return shape, mean * (1 - shape)


def shows(pictures: int, rate: float) -> bool:
    """Whether so many good pictures can show a false-alarm rate: one more would have to be the first above them."""
    return rate * (pictures + 1) >= 1 - 1e-9


METHODS: dict[str, Callable[..., list[RateThreshold]]] = {"quantile": by_quantile, "tail": by_tail}


def find(scores: np.ndarray, rate: float, method: str, seed: int, groups: int | None = None) -> dict:
    """The field `threshold` of model.json: for `rate`, and for RATES beside it; scores [n] of good pictures, `groups`:
    how many parts or clips they show."""
    rates = tuple(sorted({*RATES, rate}))
    found = METHODS[method](scores, rates, seed)
    chosen = next(one for one in found if one.rate == rate)
    return {
        "value": chosen.value,
        "rate": rate,
        "method": describe(chosen, method, len(scores), groups),
        "good": len(scores),
        "median": float(np.median(scores)),
        "rates": [asdict(one) for one in found],
    }


def describe(one: RateThreshold, method: str, pictures: int, groups: int | None = None) -> str:
    """How a threshold was found and what it rests on, e.g. "false-alarm rate 2 %, quantile of 114 good validation
    scores; true rate 0.3 to 6.2 % with 95 % confidence"."""
    how = {"quantile": f"quantile of {pictures} good validation scores"}
    how["tail"] = f"generalised Pareto tail of {pictures} good validation scores"
    text = f"false-alarm rate {percent(one.rate)}, {how[method]}"
    if not one.shown:
        limit = f"{pictures} pictures can't show less than {percent(1 / (pictures + 1))}"
        text += f"; {limit}, so it is " + ("the highest score" if method == "quantile" else "extrapolated")
    text += f"; true rate {percent(one.low, '')} to {percent(one.high)} with {percent(CONFIDENCE)} confidence"
    if groups is not None and groups < pictures:
        of = "one part or clip" if groups == 1 else f"{groups} parts or clips"
        text += f" if the pictures were independent, but they are of {of}"
    return text

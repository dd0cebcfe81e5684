"""Which value a sweep should try next: the middle of the widest gap on its Pareto front.

An accuracy rises with the logarithm of a width or a number of entries more than with the number itself, so gaps are
ratios, and their middle is the geometric mean.
"""

import math
from itertools import pairwise
from typing import Any

from edge.errors import UserError
from experiments.axes import SEED, Unit

CLOSE = 1.1  # neighbours with a smaller ratio say the same
DIGITS = 2  # of a proposed value


def propose(axes: dict[str, list], fronts: list[str], units: list[Unit], allowed) -> str | None:
    """`key=value` in the widest gap of an axis next to a point of one of the fronts (labels); None where none is wide.

    allowed(unit changes): raises UserError for a value that the params refuse.
    """
    best: tuple[float, str, Any] | None = None
    points = {unit.label: dict(unit.changes) for unit in units if unit.label in fronts}
    for key, values in axes.items():
        numbers = sorted(value for value in values if _positive(value))
        if key == SEED or len(numbers) != len(values):
            continue
        on_front = {point[key] for point in points.values() if key in point}
        for low, high in pairwise(numbers):
            middle = _middle(low, high)
            if high / low <= CLOSE or middle in numbers or not on_front & {low, high}:
                continue
            both = {low, high} <= on_front  # what lies between two points of the front is the surest to be on it
            found = (math.log(high / low) * (2 if both else 1), key, middle)
            if (best is None or found[0] > best[0]) and _is_allowed(allowed, units[0], key, middle):
                best = found
    return f"{best[1]}={best[2]}" if best else None


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _middle(low: float, high: float) -> float:
    middle = math.sqrt(low * high)
    if isinstance(low, int) and isinstance(high, int):
        return round(middle)
    return float(f"{middle:.{DIGITS}g}")


def _is_allowed(allowed, unit: Unit, key: str, value: Any) -> bool:
    try:
        allowed(tuple((name, value if name == key else old) for name, old in unit.changes))
    except UserError:
        return False
    return True

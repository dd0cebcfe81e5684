"""What the fields of a site.json share: names, points, lists, times of day and durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from edge.errors import ModelError
from edge.inference.fields import Fields

T = TypeVar("T")

LONGEST = 100  # characters of a name: it stands in topics, file names and events
MOST = 1000  # objects in a list of site.json
CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)", re.ASCII)
DAY = 24 * 60  # minutes


def name(at: Fields, key: str) -> str:
    """A name that can be shown and sent: printable, trimmed, without the characters of MQTT's filters and paths."""
    text = at.text(key)
    if len(text) > LONGEST or not text.isprintable() or text != text.strip() or set(text) & set("/+#\\"):
        raise at.error(key, f"a name of at most {LONGEST} printable characters without / + # \\ and outer blanks")
    return text


def names(at: Fields, key: str) -> tuple[str, ...]:
    """One name, or a list of them without repetition."""
    if isinstance(at.get(key), str):
        return (name(at, key),)
    found = items(at, key, "a name or a list of names", lambda inner, i: name(inner, i))
    if not found or len(set(found)) < len(found):
        raise at.error(key, "a name or a list of different names")
    return found


def items(at: Fields, key: str, allowed: str, read: Callable[[Fields, str], T]) -> tuple[T, ...]:
    """What `read` makes of each value of a list; an error names the place in the list."""
    values = at.get(key)
    if not isinstance(values, list) or len(values) > MOST:
        raise at.error(key, allowed)
    inner = Fields(at.path, {str(i): value for i, value in enumerate(values)}, f"{at.prefix}{key}.")
    return tuple(read(inner, str(i)) for i in range(len(values)))


def pair(at: Fields, key: str, allowed: str, low: float = 0, high: float = 1) -> tuple[float, float]:
    """Two numbers within limits."""
    values = at.get(key)
    if not isinstance(values, list) or len(values) != 2:
        raise at.error(key, allowed)
    inner = Fields(at.path, {str(i): value for i, value in enumerate(values)}, f"{at.prefix}{key}.")
    return inner.number("0", low, high=high), inner.number("1", low, high=high)


def one_of(at: Fields, key: str, known: Iterable[str], what: str) -> str:
    """The name of something that the site has."""
    found, known = at.get(key), tuple(known)
    if not isinstance(found, str) or found not in known:
        raise at.error(key, f"the name of {what}: " + (", ".join(known) or "the site has none"))
    return found


def unique(at: Fields, key: str, found: Iterable[str]) -> None:
    """ModelError where two objects of a list have one name."""
    seen: set[str] = set()
    for i, text in enumerate(found):
        if text in seen:
            raise ModelError(f"{at.path}: {at.prefix}{key}.{i}.name = {text!r}: must be different from all others")
        seen.add(text)


def clock(at: Fields, key: str, last: int = DAY) -> int:
    """A time of day, "HH:MM", as minutes after midnight; 24:00 is the end of the day."""
    found = minutes(at.get(key))
    if found is None or found > last:
        raise at.error(key, f'a time of day "HH:MM" of at most {last // 60:02}:{last % 60:02}')
    return found


def minutes(text: object) -> int | None:
    """Minutes after midnight of "HH:MM"; None for anything else."""
    match = CLOCK.fullmatch(text) if isinstance(text, str) else None
    found = int(match[1]) * 60 + int(match[2]) if match else DAY + 1
    return found if found <= DAY else None


def flag(at: Fields, key: str) -> bool:
    return at.choice(key, True, False)

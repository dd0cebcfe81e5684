"""Reads one object of a JSON file: every getter checks a field and names it, with what is allowed, when it is wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edge.errors import ModelError

T = TypeVar("T")
D = TypeVar("D")

MOST = 2**63 - 1  # of a whole number that has no limit of its own
LONGEST = 80  # characters of a value in a message


class Fields:
    """The fields of one object; `parse(fields)` of `object`, `objects` and `optional` makes something of a nested one,
    and what it has not asked for is an unknown key."""

    def __init__(self, path: Path, values: Any, prefix: str = ""):
        self.path, self.values, self.prefix = path, values, prefix
        self._known: set[str] = set()
        if not isinstance(values, dict):
            where = prefix.rstrip(".") or "the file"
            raise ModelError(f"{path}: {where} = {_short(values)}: must be an object")

    def error(self, key: str, allowed: str) -> ModelError:
        return ModelError(f"{self.path}: {self.prefix}{key} = {_short(self.values[key])}: must be {allowed}")

    def get(self, key: str) -> Any:
        self._known.add(key)
        if key not in self.values:
            raise ModelError(f"{self.path}: {self.prefix}{key}: missing field")
        return self.values[key]

    def parsed(self, parse: Callable[[Fields], T]) -> T:
        """What `parse` makes of this object; ModelError for a key that it did not ask for."""
        found = parse(self)
        unknown = sorted(set(self.values) - self._known)
        if unknown:
            raise ModelError(f"{self.path}: {self.prefix}{unknown[0]}: unknown field; remove it or correct its name")
        return found

    def object(self, key: str, parse: Callable[[Fields], T]) -> T:
        return Fields(self.path, self.get(key), f"{self.prefix}{key}.").parsed(parse)

    def optional(self, key: str, parse: Callable[[Fields], T]) -> T | None:
        """None where the field is null or absent."""
        self._known.add(key)
        return None if self.values.get(key) is None else self.object(key, parse)

    def objects(self, key: str, parse: Callable[[Fields], T]) -> tuple[T, ...]:
        if not isinstance(self.get(key), list):
            raise self.error(key, "a list of objects")
        nested = (Fields(self.path, value, f"{self.prefix}{key}.{i}.") for i, value in enumerate(self.values[key]))
        return tuple(at.parsed(parse) for at in nested)

    def maybe(self, key: str, default: D, read: Callable[[str], T]) -> T | D:
        """What `read` makes of the field; the default where the field is null or absent."""
        self._known.add(key)
        return default if self.values.get(key) is None else read(key)

    def mapping(self) -> dict[str, Any]:
        """The whole object, whatever it holds."""
        self._known.update(self.values)
        return dict(self.values)

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "a non-empty string")
        return value

    def text_or_null(self, key: str) -> str | None:
        return None if self.get(key) is None else self.text(key)

    def choice(self, key: str, *allowed: T) -> T:
        value: T = self.get(key)
        if not any(type(value) is type(found) and value == found for found in allowed):
            raise self.error(key, " or ".join(repr(a) for a in allowed))
        return value

    def whole(self, key: str, low: int, high: int = MOST) -> int:
        value = self.get(key)
        if not is_whole(value) or not low <= value <= high:
            told = high < MOST or (is_whole(value) and value > high)
            raise self.error(key, f"a whole number of at least {low}" + f" and at most {high}" * told)
        return int(value)

    def whole_or_null(self, key: str, low: int = 0) -> int | None:
        return None if self.get(key) is None else self.whole(key, low)

    def number(self, key: str, low: float = -math.inf, open_low: bool = False, high: float = math.inf) -> float:
        found = _finite(self.get(key))
        if found is None or not low <= found <= high or (open_low and found == low):
            limit = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
            raise self.error(key, f"a finite number{limit}" + (f" and at most {high:g}" if high < math.inf else ""))
        return found


def is_whole(value: Any) -> bool:
    """Whether a value of JSON is a whole number: Python takes true and false for 1 and 0."""
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> float | None:
    """The number, None for anything that isn't one or is beyond what a float holds."""
    try:
        found = float(value) if is_whole(value) or isinstance(value, float) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

"""Progress of a long loop: a bar on a terminal, a few plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS = 10.0  # between two lines in a log


def track(iterable: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yields the items and reports progress; `total` for an iterable without a length."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if sys.stderr.isatty():
        yield from tqdm(iterable, desc=label, total=total)
        return
    of = "" if total is None else f"/{total}"
    last, done = time.monotonic(), 0
    for done, item in enumerate(iterable, 1):
        yield item
        if time.monotonic() - last >= SECONDS and done != total:
            last = time.monotonic()
            print(f"{label}: {done}{of}", flush=True)
    print(f"{label}: {done}{of}{' done' if total in (None, done) else ''}", flush=True)

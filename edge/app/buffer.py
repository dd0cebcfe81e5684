"""The bounded queue between two threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Buffer(Generic[T]):
    """Holds at most `size` items. A full one drops its oldest and counts it, or, when `lossless`, lets `put` wait.

    A lossless buffer wakes its reader when it is half full and its writer when it is half empty: nobody waits for its
    frames, and a switch between threads for each of them would cost a tenth of a small model's time.
    """

    def __init__(self, size: int, lossless: bool):
        self.size, self.lossless, self.dropped = size, lossless, 0
        self._items: deque[T] = deque()
        lock = threading.Lock()
        self._ready, self._room = threading.Condition(lock), threading.Condition(lock)
        self._closed = False

    def put(self, item: T) -> None:
        """Adds an item; after `close` it is counted as dropped."""
        with self._ready:
            if self.lossless and len(self._items) >= self.size:
                self._room.wait_for(lambda: len(self._items) <= self.size // 2 or self._closed)
            if self._closed:
                self.dropped += 1
                return
            if len(self._items) >= self.size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            if not self.lossless or len(self._items) >= self.size // 2:
                self._ready.notify()

    def close(self, discard: bool = False) -> None:
        """No more items come; what is inside stays, or is counted as dropped when nobody will fetch it."""
        with self._ready:
            self._closed = True
            if discard:
                self.dropped += len(self._items)
                self._items.clear()
            self._ready.notify_all()
            self._room.notify_all()

    def __iter__(self) -> Iterator[T]:
        """The items in order, until the buffer is closed and empty."""
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                if len(self._items) <= self.size // 2:
                    self._room.notify()
            yield item

"""The bounded queue between two threads."""

from __future__ import annotations

import threading
from collections import deque


class Buffer:
    """Holds at most `size` items. A full one drops its oldest and counts it, or, when `lossless`, lets `put` wait."""

    def __init__(self, size: int, lossless: bool):
        self.size, self.lossless, self.dropped = size, lossless, 0
        self._items: deque = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item) -> None:
        """Adds an item; after `close` it is counted as dropped."""
        with self._changed:
            while self.lossless and len(self._items) >= self.size and not self._closed:
                self._changed.wait()
            if self._closed:
                self.dropped += 1
                return
            if len(self._items) >= self.size:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def close(self, discard: bool = False) -> None:
        """No more items come; what is inside stays, or is counted as dropped when nobody will fetch it."""
        with self._changed:
            self._closed = True
            if discard:
                self.dropped += len(self._items)
                self._items.clear()
            self._changed.notify_all()

    def __iter__(self):
        """The items in order, until the buffer is closed and empty."""
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

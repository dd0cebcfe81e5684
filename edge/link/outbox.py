"""What waits to be sent, in SQLite: it survives kill -9 and power cuts, and goes away when it has arrived, not before.

The outbox is bounded in messages and bytes; when it is full the oldest go, and are counted for good. What the disk
doesn't take waits in memory, bounded too: it is sent as if nothing had happened, but a crash would lose it.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UserError, reason

MOST_MESSAGES, MOST_BYTES = 10_000, 64 << 20  # a choice: some days of events
IN_MEMORY = 1000  # messages that the disk doesn't take: a choice
APPLICATION = 0x45564F42  # "EVOB", by which a file is known as one of ours; SQLite keeps it in bytes 68 to 71
MAGIC = b"SQLite format 3\0"
COUNTS = ("dropped", "refused", "gone", "damaged")  # see Outbox.counts
TABLES = """\
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, kind TEXT NOT NULL, later INTEGER NOT NULL, part INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Message:
    """What is to be sent next; `part` says how many parts of it have arrived."""

    number: int
    kind: str
    part: int
    payload: bytes


@dataclass
class _Entry:
    """What is known of a message without reading it."""

    kind: str
    later: bool
    part: int
    size: int
    payload: bytes | None  # None: on disk alone
    may_have_arrived: bool = False


class Outbox:
    """`put` a message, get the `first` to be sent, and take it away when it is `done`. Any thread may do so.

    Messages go out in the order in which they came, so those of one event in its order; what was put with `later` goes
    when nothing else waits. A message that may have arrived is not dropped, since who counted it as lost would count
    wrong; the bounds are for all others. `say` is told in one line what the disk doesn't take. UserError where the file
    is none of ours or in use; one of ours that is damaged is kept beside the new one as NAME.damaged, and counted.
    """

    def __init__(
        self,
        path: str | Path,
        most_messages: int = MOST_MESSAGES,
        most_bytes: int = MOST_BYTES,
        say: Callable[[str], None] = lambda line: None,
    ):
        self.path, self.most_messages, self.most_bytes, self._say = Path(path), most_messages, most_bytes, say
        self._lock = threading.RLock()
        self._told = False
        # what is true; the disk follows with each `_write`, and catches up after one that failed
        self._entries: dict[int, _Entry] = {}  # of all messages, in their order
        self._ready: dict[bool, dict[int, None]] = {
            False: {},
            True: {},
        }  # numbers of those that may be sent, by `later`
        self._open_messages = self._open_bytes = 0  # of those that may be dropped
        self._counts = dict.fromkeys(COUNTS, 0)
        self._unwritten = self._last = 0
        # what the disk doesn't know of yet
        self._new: dict[int, None] = {}
        self._gone: set[int] = set()
        self._parts: set[int] = set()
        self._check()
        try:
            self._open()
        except sqlite3.OperationalError as error:
            raise UserError(f"{path}: {_why(error)}") from None
        except sqlite3.DatabaseError:
            self._set_aside()

    def put(self, kind: str, payload: bytes, later: bool = False) -> None:
        """Keeps a message; on disk when this returns, unless the disk takes none."""
        with self._lock:
            self._make_room(len(payload))
            self._last += 1
            self._add(self._last, _Entry(kind, later, 0, len(payload), payload))
            self._new[self._last] = None
            if not self._write():
                self._unwritten += 1
                while len(self._new) > IN_MEMORY and self._drop_oldest(self._new):
                    pass

    def first(self) -> Message | None:
        """The message whose turn it is, None when nothing waits; whoever sends it says what became of it."""
        with self._lock:
            if self._new:
                self._write()
            number = next(iter(self._ready[False]), next(iter(self._ready[True]), None))
            if number is None:
                return None
            entry, payload = self._entries[number], self._payload(number)
            if payload is None:
                return None
            self._spare(number)
            return Message(number, entry.kind, entry.part, payload)

    def done(self, message: Message, count: str | None = None) -> None:
        """Takes a message away that has arrived, or for another reason, which is counted: "refused", "gone"."""
        with self._lock:
            if count:
                self._counts[count] += 1
            self._remove(message.number)
            self._write()

    def hold(self, message: Message) -> None:
        """Leaves a message in the outbox, but not to be sent, until it is `done` or `release` is called."""
        with self._lock:
            self._ready[self._entries[message.number].later].pop(message.number, None)

    def release(self) -> None:
        """All that is held is to be sent again, in the order in which it came."""
        with self._lock:
            for later, ready in self._ready.items():
                ready.clear()
                ready.update((number, None) for number, entry in self._entries.items() if entry.later is later)

    def part_done(self, message: Message) -> None:
        """Notes that one more part of a message has arrived."""
        with self._lock:
            self._entries[message.number].part = message.part + 1
            self._parts.add(message.number)
            self._write()

    @property
    def counts(self) -> dict[str, int]:
        """Since the file is there: dropped (no room), refused (the other side will never take it), gone (clips deleted
        before they were sent), damaged (outboxes set aside). `waiting` and `unwritten` (in this run, what the disk
        did not take at first) are numbers of messages; those that are held don't wait."""
        with self._lock:
            waiting = sum(map(len, self._ready.values()))
            return {"waiting": waiting, "unwritten": self._unwritten, **self._counts}

    def close(self) -> None:
        with self._lock:
            self._write()
            self._base.close()

    def _check(self) -> None:
        """UserError where a file exists that is not an outbox."""
        try:
            with open(self.path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o600)):
                pass
            with open(self.path, "rb") as stream:
                head = stream.read(100)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: can't be written: {getattr(error, 'strerror', None) or error}") from None
        if head and (len(head) < 72 or head[:16] != MAGIC or head[68:72] != struct.pack(">I", APPLICATION)):
            raise UserError(f"{self.path}: exists and is no outbox; give another file")

    def _open(self) -> None:
        self._base = base = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            base.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process, and no file of shared memory
            ((tables,),) = base.execute("SELECT count(*) FROM sqlite_master")  # takes the lock
            base.execute("PRAGMA synchronous = FULL")
            if not tables:  # else nothing is written, so that a full disk is no reason not to start
                base.execute(f"PRAGMA application_id = {APPLICATION}")
                base.execute("PRAGMA journal_mode = WAL")
                base.executescript(TABLES)
            ((checked,),) = base.execute("PRAGMA quick_check(1)")
            if checked != "ok":
                raise sqlite3.DatabaseError(checked)
            for number, *known in base.execute(
                "SELECT id, kind, later, part, length(payload) FROM messages ORDER BY id"
            ):
                kind, later, part, size = known
                self._add(number, _Entry(kind, bool(later), part, size, None))
            self._counts.update(base.execute("SELECT name, value FROM counts"))
        except sqlite3.Error:
            base.close()
            raise
        self._last = next(reversed(self._entries), 0)

    def _set_aside(self) -> None:
        aside = self.path.with_name(self.path.name + ".damaged")
        self._entries, self._ready = {}, {False: {}, True: {}}
        self._open_messages = self._open_bytes = 0
        self._counts = dict.fromkeys(COUNTS, 0)
        try:
            os.replace(self.path, aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            self._check()  # makes a new file that nobody else can read
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{self.path}: damaged, and can't be replaced: {reason(error)}") from None
        self._counts["damaged"] += 1
        self._write()
        self._say(f"{self.path}: damaged; what waited in it is lost to the link, and kept in {aside}")

    def _write(self) -> bool:
        """Brings to the disk what it doesn't know of yet, all or nothing; whether it took it."""
        new = [(number, self._entries[number]) for number in self._new]
        parts = [(self._entries[number].part, number) for number in self._parts if number in self._entries]
        rows = [(number, entry.kind, entry.later, entry.part, entry.payload) for number, entry in new]
        try:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany("DELETE FROM messages WHERE id = ?", [(number,) for number in self._gone])
            self._base.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)
            self._base.executemany("UPDATE messages SET part = ? WHERE id = ?", parts)
            self._base.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", self._counts.items())
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            self._tell(f"can't be written: {_why(error)}; up to {IN_MEMORY} messages wait in memory")
            return False
        for _, entry in new:
            entry.payload = None
        self._new.clear()
        self._gone.clear()
        self._parts.clear()
        if self._told:
            self._say(f"{self.path}: is written again")
        self._told = False
        return True

    def _tell(self, what: str) -> None:
        """Says it once, until the disk is well again."""
        if not self._told:
            self._told = True
            self._say(f"{self.path}: {what}")

    def _payload(self, number: int) -> bytes | None:
        """None where the disk doesn't give it."""
        payload = self._entries[number].payload
        if payload is None:
            try:
                ((payload,),) = self._base.execute("SELECT payload FROM messages WHERE id = ?", (number,))
            except sqlite3.Error as error:
                self._tell(f"can't be read: {_why(error)}")
        return payload

    def _add(self, number: int, entry: _Entry) -> None:
        self._entries[number] = entry
        self._ready[entry.later][number] = None
        self._open_messages, self._open_bytes = self._open_messages + 1, self._open_bytes + entry.size

    def _spare(self, number: int) -> None:
        """The bounds no longer concern it."""
        entry = self._entries[number]
        if not entry.may_have_arrived:
            self._open_messages, self._open_bytes = self._open_messages - 1, self._open_bytes - entry.size
        entry.may_have_arrived = True

    def _remove(self, number: int) -> None:
        self._spare(number)
        self._ready[self._entries.pop(number).later].pop(number, None)
        if number in self._new:
            del self._new[number]
        else:
            self._gone.add(number)

    def _make_room(self, size: int) -> None:
        while self._open_messages >= self.most_messages or self._open_bytes + size > self.most_bytes:
            if not self._drop_oldest(self._entries):
                return

    def _drop_oldest(self, numbers: Mapping[int, object]) -> bool:
        """Whether there was one of these that may be dropped."""
        for number in numbers:
            if not self._entries[number].may_have_arrived:
                self._remove(number)
                self._counts["dropped"] += 1
                return True
        return False


def _why(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "is in use by another process; give each its own file"
    return "the disk is full" if "full" in str(error) else reason(error)

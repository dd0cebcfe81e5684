"""What waits to be sent, in SQLite: it survives kill -9 and power cuts, and goes away when it has arrived, not before.

The outbox is bounded in messages and bytes; when it is full the oldest go, and are counted for good. What the disk
doesn't take waits in memory, bounded too: it is sent as if nothing had happened, but a crash would lose it.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UserError, reason

MOST_MESSAGES, MOST_BYTES = 10_000, 64 << 20  # a choice: some days of events
IN_MEMORY = 1000  # messages: a choice
APPLICATION = 0x45564F42  # "EVOB", by which a file is known as one of ours; SQLite keeps it in bytes 68 to 71
MAGIC = b"SQLite format 3\0"
COUNTS = ("dropped", "refused", "gone", "damaged")  # see Outbox.counts
TABLES = """\
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, later INTEGER NOT NULL, part INTEGER NOT NULL DEFAULT 0,
  payload BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS in_turn ON messages (later, id);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Message:
    """What is to be sent next. `number` counts up, and is None while the message is in memory alone; `part` says how
    many parts of it have arrived."""

    number: int | None
    kind: str
    part: int
    payload: bytes


class Outbox:
    """`put` a message, get the `first` to be sent, and take it away when it is `done`. Any thread may do so.

    Messages go out in the order in which they came, so those of one event in its order; what was put with `later` goes
    when nothing else waits. `say` is told in one line what the disk doesn't take. UserError where the file is none of
    ours or in use; one of ours that is damaged is kept beside the new one as NAME.damaged, and counted.
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
        self._waiting: deque[tuple[str, bool, bytes]] = deque()  # (kind, later, payload) that the disk didn't take
        self._counts = dict.fromkeys(COUNTS, 0)  # what the disk doesn't know of yet
        self._gone: set[int] = set()  # numbers of messages that are done, which the disk doesn't know of yet
        self._sent: Message | None = None  # the last that `first` gave
        self._parts: dict[bytes, int] = {}  # of messages by their payload
        self._messages = self._bytes = self._unwritten = 0
        self._told = False
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
            self._waiting.append((kind, later, payload))
            if self._write_waiting():
                return
            self._unwritten += 1
            while len(self._waiting) > IN_MEMORY or sum(len(p) for *_, p in self._waiting) > self.most_bytes:
                del self._waiting[1 if self._is_sent(self._waiting[0][2]) else 0]
                self._counts["dropped"] += 1

    def first(self) -> Message | None:
        """The message whose turn it is, None when nothing waits. It is never dropped, since it may have arrived."""
        with self._lock:
            self._write_waiting()
            self._sent = self._next(False) or self._next(True)
            return self._sent

    def _next(self, later: bool) -> Message | None:
        try:
            for (number,) in self._base.execute("SELECT id FROM messages WHERE later = ? ORDER BY id", (later,)):
                if number not in self._gone:
                    query = "SELECT kind, part, payload FROM messages WHERE id = ?"
                    ((kind, part, payload),) = self._base.execute(query, (number,))
                    return Message(number, kind, self._parts.get(payload, part), payload)
        except sqlite3.Error as error:
            self._tell(f"can't be read: {_why(error)}")
        for kind, late, payload in self._waiting:
            if late is later:
                return Message(None, kind, self._parts.get(payload, 0), payload)
        return None

    def done(self, message: Message, count: str | None = None) -> None:
        """Takes a message away that has arrived, or for another reason, which is counted: "refused", "gone"."""
        with self._lock:
            self._parts.pop(message.payload, None)
            if count:
                self._counts[count] += 1
            # it may have come from memory to the disk meanwhile
            number = self._sent.number if self._sent and self._is_sent(message.payload) else message.number
            self._sent = None
            if number is not None:
                self._gone.add(number)
                with self._writing():
                    pass
            else:
                self._waiting = deque(waiting for waiting in self._waiting if waiting[2] is not message.payload)

    def part_done(self, message: Message) -> None:
        """Notes that one more part of a message has arrived."""
        with self._lock, self._writing():
            self._parts[message.payload] = message.part + 1  # also where the disk takes nothing
            self._base.execute("UPDATE messages SET part = ? WHERE id = ?", (message.part + 1, message.number))

    def _is_sent(self, payload: bytes) -> bool:
        return self._sent is not None and self._sent.payload is payload

    @property
    def counts(self) -> dict[str, int]:
        """Since the file is there: dropped (no room), refused (the other side will never take it), gone (clips deleted
        before they were sent), damaged (outboxes set aside). `waiting` and `unwritten` (in this run, what the disk
        did not take at first) are numbers of messages."""
        with self._lock:
            found = dict(self._counts)
            with suppress(sqlite3.Error):
                for name, value in self._base.execute("SELECT name, value FROM counts"):
                    found[name] += value
            waiting = self._messages - len(self._gone) + len(self._waiting)
            return {"waiting": waiting, "unwritten": self._unwritten, **found}

    def close(self) -> None:
        with self._lock:
            self._write_waiting()
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
            ((self._messages, size),) = base.execute("SELECT count(*), total(length(payload)) FROM messages")
            self._bytes = int(size)
        except sqlite3.Error:
            base.close()
            raise

    def _set_aside(self) -> None:
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            os.replace(self.path, aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
            self._open()
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"{self.path}: damaged, and can't be replaced: {reason(error)}") from None
        self._counts["damaged"] += 1
        self._say(f"{self.path}: damaged; what waited in it is lost to the link, and kept in {aside}")

    @contextmanager
    def _writing(self) -> Iterator[list[bool]]:
        """A transaction, in which counts and what has gone are written too; the list is empty when the disk takes none
        of it, and nothing has changed then."""
        written: list[bool] = []
        before = self._messages, self._bytes, dict(self._counts)
        try:
            self._base.execute("BEGIN IMMEDIATE")
            for number in self._gone:
                self._delete("id = ?", number)
            yield written
            for name, value in self._counts.items():
                if value:
                    query = "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + ?"
                    self._base.execute(query, (name, value, value))
            self._base.execute("COMMIT")
            written.append(True)
            self._gone.clear()
            self._counts = dict.fromkeys(COUNTS, 0)
            if self._told:
                self._say(f"{self.path}: is written again")
            self._told = False
        except BaseException as error:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            self._messages, self._bytes, self._counts = before
            if not isinstance(error, sqlite3.Error):
                raise
            self._tell(f"can't be written: {_why(error)}; up to {IN_MEMORY} messages wait in memory")

    def _tell(self, what: str) -> None:
        """Says it once, until the disk is well again."""
        if not self._told:
            self._told = True
            self._say(f"{self.path}: {what}")

    def _delete(self, which: str, *values: int) -> int:
        rows = self._base.execute(f"SELECT id, length(payload) FROM messages WHERE {which}", values).fetchall()
        for number, length in rows:
            self._base.execute("DELETE FROM messages WHERE id = ?", (number,))
            self._messages, self._bytes = self._messages - 1, self._bytes - length
        return len(rows)

    def _write_waiting(self) -> bool:
        """Moves what waits in memory to the disk, in its order; whether the disk took it."""
        if not self._waiting:
            return True
        sent = self._sent
        with self._writing() as written:
            for kind, later, payload in self._waiting:
                self._make_room(len(payload))
                query = "INSERT INTO messages (kind, later, payload) VALUES (?, ?, ?)"
                number = self._base.execute(query, (kind, later, payload)).lastrowid
                self._messages, self._bytes = self._messages + 1, self._bytes + len(payload)
                if self._is_sent(payload):
                    sent = Message(number, kind, 0, payload)
        if written:
            self._sent = sent
            self._waiting.clear()
        return bool(written)

    def _make_room(self, size: int) -> None:
        spared = (self._sent and self._sent.number) or 0
        while self._messages >= self.most_messages or self._bytes + size > self.most_bytes:
            if not self._delete("id = (SELECT min(id) FROM messages WHERE id != ?)", spared):
                return
            self._counts["dropped"] += 1


def _why(error: sqlite3.Error) -> str:
    if "locked" in str(error):
        return "is in use by another process; give each its own file"
    return "the disk is full" if "full" in str(error) else reason(error)

"""A folder that one process at a time may use, for the stores that need no server."""

import fcntl
import os
from contextlib import contextmanager
from pathlib import Path

from edge.errors import UserError
from stages.common.textfile import reason, short

LOCK = ".lock"


class Lock:
    """Holds the folder until `release` or the end of the process, however it ends; makes it where there is none."""

    def __init__(self, folder: Path):
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._number: int | None = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            if not isinstance(error, BlockingIOError):
                raise UserError(f"{short(folder)}: can't be locked: {reason(error)}; use another disk") from None
            raise UserError(
                f"{short(folder)}: in use by another process; wait for its end, or use the store server for several"
            ) from None

    @property
    def held(self) -> bool:
        return self._number is not None

    def release(self) -> None:
        if self._number is not None:
            os.close(self._number)
            self._number = None


@contextmanager
def told(folder: Path):
    """What the system refuses, as one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{short(error.filename or folder)}: can't be used: {reason(error)}") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{short(folder)}: no name of a folder") from None


def unused(folder: Path) -> bool:
    """Whether nothing but the lock, and what an interrupted start left, is in the folder."""
    with told(folder):
        return all(name.startswith(".") for name in os.listdir(folder))

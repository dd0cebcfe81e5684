"""The manners of every stage: validated params, one-line errors, ends with its parent."""

import ctypes
import errno
import os
import signal
import sys

from stages.common import params
from stages.common.errors import UserError

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies, so that no orphan writes beside a new run (Linux)."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call
        os._exit(1)


def main(stage: str, run) -> None:
    """Runs `run(params)` as the stage `stage`; bad input ends in one line on stderr and exit code 1."""
    end_with_parent()
    try:
        run(params.load(stage))
    except UserError as error:
        fail(stage, str(error))
    except KeyboardInterrupt:
        fail(stage, "interrupted", 130)
    except Exception as error:
        if getattr(error, "errno", None) != errno.ENOSPC and os.strerror(errno.ENOSPC) not in str(error):
            raise
        fail(stage, "disk full while writing an output; make room and run dvc repro again")


def fail(stage: str, message: str, code: int = 1) -> None:
    print(f"error: {stage}: {message}", file=sys.stderr)
    sys.exit(code)

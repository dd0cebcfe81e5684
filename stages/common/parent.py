"""A stage ends with its parent, so that no orphan of a killed dvc writes beside the next run.

Each stage's package calls this before its slow imports. dvc.yaml starts a stage with `exec`, so that its parent is dvc
and not a shell between the two.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies (Linux; only in a process started as `python -m`).

    A dvc killed before this call leaves a process whose parent is the collector of orphans, which dvc never is: dvc
    starts its stages in its own session.
    """
    if sys.platform != "linux" or sys.argv[:1] != ["-m"]:  # so it reads while Python still looks for the module to run
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    orphan = "DVC_STAGE" in os.environ and os.getsid(parent) != os.getsid(0)
    if orphan or os.getppid() != parent:
        os._exit(1)

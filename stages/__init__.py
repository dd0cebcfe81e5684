"""What makes the model: one package per stage of dvc.yaml.

A process that runs a stage (`python -m stages.<verb>`) asks here, before its slow imports, to end with its parent.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies, so that no orphan writes beside a new run (Linux)."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the call
        os._exit(1)


if sys.argv[:1] == ["-m"]:  # so it reads while Python still looks for the module to run
    end_with_parent()

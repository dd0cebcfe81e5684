"""How a stage runs: with validated params and one-line errors."""

import errno
import os
import sys
from typing import NoReturn

from edge.errors import UserError
from stages.common import params

REASONS = {
    errno.ENOSPC: "disk full while writing an output; make room and run dvc repro again",
    errno.EACCES: "{}; make it writable for you and run dvc repro again",
}


def main(stage: str, run) -> None:
    """Runs `run(params)` as the stage `stage`; bad input ends in one line on stderr and exit code 1."""
    try:
        run(params.load(stage))
    except UserError as error:
        fail(stage, str(error))
    except KeyboardInterrupt:
        fail(stage, "interrupted", 130)
    except Exception as error:
        for code, message in REASONS.items():
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                fail(stage, message.format(error))
        raise


def fail(stage: str, message: str, code: int = 1) -> NoReturn:
    """Prints the message as one line and exits with `code`."""
    print(f"error: {stage}: {message}", file=sys.stderr)
    sys.exit(code)

"""How a stage runs: with validated params and one-line errors."""

import errno
import io
import os
import re
import sys
from typing import NoReturn

from edge.errors import UserError
from stages.common import params
from stages.common.limits import NAME
from stages.common.textfile import one_line, short

REASONS = {
    errno.ENOSPC: "disk full while writing an output; make room and run dvc repro again",
    errno.EDQUOT: "your share of the disk is used up; make room and run dvc repro again",
    errno.EROFS: "{}; make it writable for you and run dvc repro again",
    errno.EACCES: "{}; make it readable and writable for you and run dvc repro again",
    errno.ENOMEM: "not enough memory; make the numbers in params.yaml smaller, or use a larger machine",
}


def main(stage: str, run) -> None:
    """Runs `run(params)` as the stage `stage`; bad input ends in one line on stderr and exit code 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that aren't UTF-8 are printed too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        run(params.load(stage))
    except UserError as error:
        fail(stage, str(error))
    except KeyboardInterrupt:
        fail(stage, "interrupted", 130)
    except MemoryError:
        fail(stage, REASONS[errno.ENOMEM])
    except Exception as error:
        for code, message in REASONS.items():
            if getattr(error, "errno", None) == code or os.strerror(code) in str(error):
                fail(stage, message.format(error))
        if isinstance(error, OSError) and error.filename is not None:
            fail(stage, f"{short(error.filename)}: {error.strerror}; check the paths in params.yaml")
        raise


def item(verb: str, argument: str) -> str:
    """The key in `argument`, which people give as it is and dvc.yaml as $DVC_STAGE ("compile@student-int8"); ends in
    one line when it can't be a name."""
    name = argument.rpartition("@")[2]
    if not re.fullmatch(NAME, name):
        fail(verb, f"{name!r}: not a name; give small letters, digits and dashes, 100 at most", 2)
    return name


def fail(stage: str, message: str, code: int = 1) -> NoReturn:
    """Prints the message as one line and exits with `code`; a name in it may hold line breaks or lone surrogates."""
    print(f"error: {stage}: {one_line(message)}", file=sys.stderr)
    sys.exit(code)

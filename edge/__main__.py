"""`python -m edge COMMAND`: pictures, folders, video and cameras through a deployed model."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

import cv2

from edge.address import masked
from edge.app import bench, console, numbers, pictures, sample, video
from edge.defects import commands as defects
from edge.errors import UserError, reason, shown
from edge.link import commands as link
from edge.watch import adopt
from edge.watch import commands as watch


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 whatever the verdicts are, 1 after one line on stderr for bad input (2: bad usage)."""
    try:
        return _run(argv)
    except UserError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the rows went away: `| head`
        return 1
    except OSError as error:  # no name: of standard output, as what writes a file says which
        return _failed(f"{error.filename or 'standard output'}: {error.strerror or error}")
    except MemoryError:
        return _failed("not enough memory; use smaller pictures or fewer threads")
    except cv2.error as error:
        return _failed(f"OpenCV: {reason(error)}")


def _run(argv: list[str] | None) -> int:
    """The command itself; what it printed is written when this returns, whatever else happened."""
    console.prepare()
    if "OPENCV_LOG_LEVEL" not in os.environ:  # what it prints beside our line says less, on more lines
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        arguments = _parser().parse_args(argv)
        numbers.check(arguments)
        return int(arguments.run(arguments))
    finally:
        console.flush()


def _failed(message: str) -> int:
    console.complain(f"error: {masked(message)}")
    return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong on one line, and without the passwords among the arguments."""

    def error(self, message: str) -> NoReturn:
        try:
            super().error(shown(masked(message)))
        except OSError:  # the argparse of Python 3.11.2 fails where standard error is full
            raise SystemExit(2) from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m edge", description="Run a deployed model on pictures and video.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (pictures, video, bench, sample, defects, watch, adopt, link):
        module.register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`python -m edge COMMAND`: pictures, folders, video and cameras through a deployed model."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from edge.address import masked
from edge.app import bench, numbers, pictures, sample, video
from edge.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 whatever the verdicts are, 1 after one line on stderr for bad input (2: bad usage)."""
    arguments = _parser().parse_args(argv)
    try:
        numbers.check(arguments)
        return int(arguments.run(arguments))
    except UserError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the rows went away: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong without the passwords among the arguments."""

    def error(self, message: str) -> NoReturn:
        super().error(masked(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m edge", description="Run a deployed model on pictures and video.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (pictures, video, bench, sample):
        module.register(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

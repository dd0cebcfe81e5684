"""`python -m stages.defects COMMAND ...`: each command is a module of this package and explains itself with --help."""

import argparse
import importlib
import sys

from edge.errors import UserError
from stages.common.stage import fail

COMMANDS = {
    "push": "put the points of a catalogue into a store",
    "query": "print the neighbours of embeddings",
    "label": "correct the type of points",
    "delete": "remove points",
    "pull": "write a store's points into a catalogue",
}


def main(argv: list[str]) -> None:
    """Imports the module of the command alone; bad input ends in one line and exit code 1."""
    listed = "\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m stages.defects",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    command = parser.parse_args(argv[:1]).command
    module = importlib.import_module(f"stages.defects.{command}")
    sub = argparse.ArgumentParser(prog=f"python -m stages.defects {command}", description=module.__doc__)
    module.add_arguments(sub)
    arguments = sub.parse_args(argv[1:])
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        module.run(arguments)
    except UserError as error:
        fail(command, str(error))
    except KeyboardInterrupt:
        fail(command, "interrupted", 130)
    except BrokenPipeError:  # the reader of the rows went away: `| head`
        sys.stderr.close()
        sys.exit(1)

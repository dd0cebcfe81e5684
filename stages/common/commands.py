"""Packages whose modules are commands: `python -m PACKAGE COMMAND ...`, each of which explains itself with --help."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from edge.app import console
from edge.errors import UserError
from stages.common.stage import fail
from stages.common.textfile import reason, short


def main(package: str, about: str | None, commands: dict[str, str], argv: list[str]) -> None:
    """Runs a command, {name: what it does}, and imports its module alone: the others may need torch.

    Bad input and a file that can't be used end in one line and exit code 1, an interrupt in 130, a reader of the output
    that went away (`| head`) quietly in 1."""
    command = package
    try:
        console.prepare()
        try:
            command = _chosen(package, about, commands, argv[:1])
            module = importlib.import_module(f"{package}.{command}")
            parser = _parser(f"{package} {command}", module.__doc__)
            module.add_arguments(parser)
            arguments = parser.parse_args(argv[1:])
            if getattr(arguments, "output", None):
                check_output(Path(arguments.output))
            module.run(arguments)
        finally:
            console.flush()
    except UserError as error:
        fail(command, str(error))
    except KeyboardInterrupt:
        fail(command, "interrupted", 130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        fail(command, f"{short(error.filename)}: {reason(error)}")


def _chosen(package: str, about: str | None, commands: dict[str, str], words: list[str]) -> str:
    listed = "\n".join(f"  {name:12}{text}" for name, text in commands.items())
    parser = _parser(package, f"{about}\n\n{listed}")
    parser.add_argument("command", choices=commands, metavar="COMMAND")
    return parser.parse_args(words).command


def _parser(name: str, about: str | None) -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m {name}", description=about, formatter_class=form)


def check_output(path: Path) -> None:
    """UserError for a file that can't be written: before the work, which may take an hour, and not after it."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; give the name of a file")
    above = next(one for one in path.absolute().parents if os.path.lexists(one))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"--output {path}: {above} is no folder that can be written in")

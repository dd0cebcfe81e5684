"""Packages whose modules are commands: `python -m PACKAGE COMMAND ...`, each of which explains itself with --help."""

import argparse
import importlib
import sys

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
            module.run(parser.parse_args(argv[1:]))
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

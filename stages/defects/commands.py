"""`python -m stages.defects COMMAND ...`: each command is a module of this package and explains itself with --help."""

from stages.common import commands

COMMANDS = {
    "push": "put the points of a catalogue into a store",
    "query": "print the neighbours of embeddings",
    "label": "correct the type of points",
    "delete": "remove points",
    "pull": "write a store's points into a catalogue",
}


def main(argv: list[str]) -> None:
    commands.main("stages.defects", __doc__, COMMANDS, argv)

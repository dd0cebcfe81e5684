"""`python -m stages.defects COMMAND ...`: labelled defects in a store."""

import sys

from stages.defects import commands

if __name__ == "__main__":
    commands.main(sys.argv[1:])

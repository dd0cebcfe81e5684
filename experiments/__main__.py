"""`python -m experiments COMMAND ...`: each command is a module of this package and explains itself with --help."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from edge.errors import UserError
from stages.common.stage import fail

COMMANDS = {
    "sweep": "run every combination of some settings, here or on other machines, and compare them",
    "publish": "keep the small results of this run in reports/published, for git",
    "speedup": "time exported files against EfficientAD-S and each other",
    "profile": "time every operator of an exported int8 TFLite file",
    "banks": "bytes of a memory bank against accuracy: coreset ratios in float32, int8 and product-quantized",
    "kernels": "score int8 files on other kernels than XNNPACK's, here and on devices",
    "supervised": "keep what supervised variants are worth at several thresholds, for git",
    "types": "keep how well runs of several seeds told types of defects, for git",
    "clips": "the table of a run on clips, beside the largest optical flow",
    "ci_report": "bring the graph up to date from the shared remote and say what a pull request changed",
    "detector": "a published YOLOX detector as int8 TFLite, and its accuracy against the float file",
    "soak": "loop a video through `edge watch` with everything on: memory, frames, clips and events over an hour",
    "tier": "change the parameters to another tier: methods, video",
    "stores": "time the stores of labelled defects with many points",
    "scale": "what the parts of a fleet do on one core here, for docs/scale.md",
    "readme": "fill the tables of README.md and docs/ from reports/published",
}


def main(argv: list[str] | None = None) -> None:
    """Imports the module of the command alone: only one of them needs torch."""
    argv = sys.argv[1:] if argv is None else argv
    listed = "\n".join(f"  {name:12}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    command = parser.parse_args(argv[:1]).command
    module = importlib.import_module(f"experiments.{command}")
    sub = argparse.ArgumentParser(
        prog=f"python -m experiments {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(sub)
    arguments = sub.parse_args(argv[1:])
    try:
        if getattr(arguments, "output", None):
            check_output(Path(arguments.output))
        module.run(arguments)
    except UserError as error:
        fail(command, str(error))


def check_output(path: Path) -> None:
    """UserError for a file that can't be written: before the work, which may take an hour, and not after it."""
    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; give the name of a file")
    above = next(one for one in path.absolute().parents if os.path.lexists(one))
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"--output {path}: {above} is no folder that can be written in")


if __name__ == "__main__":
    main()

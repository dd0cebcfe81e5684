"""`python -m experiments COMMAND ...`: each command is a module of this package and explains itself with --help."""

import sys

from stages.common import commands

COMMANDS = {
    "sweep": "run every combination of some settings, here or on other machines, and compare them",
    "publish": "keep the small results of this run in reports/published, for git",
    "speedup": "time exported files against EfficientAD-S and each other",
    "methods": "keep what the methods of this run are worth and how long each takes in its runtimes, for git",
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
    commands.main("experiments", __doc__, COMMANDS, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    main()

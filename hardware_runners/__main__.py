"""`python -m hardware_runners`: enrol devices, look at them, measure on several at once."""

from __future__ import annotations

import argparse
import sys

from edge.errors import UserError
from edge.inference.kernels import KERNELS
from hardware_runners.commands import accuracy, bench, enrol, look
from hardware_runners.runner.errors import Unavailable
from stages.common.textfile import one_line


def main(argv: list[str] | None = None) -> int:
    """One line on stderr and 1 for what is wrong, 75 for a device that can't be reached now."""
    parser = argparse.ArgumentParser(prog="python -m hardware_runners", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser("enrol", help="connect to a device, show what it is, write its inventory file and plan")
    add.add_argument("name", help="what to call it, e.g. pi5")
    add.add_argument("address", metavar="[USER@]HOST", help="as ssh takes it; an alias of ~/.ssh/config will do")
    add.add_argument("--port", type=int, help="of its SSH server")
    add.add_argument("--python", default="python3", help="the interpreter there, e.g. edge-env/bin/python")
    add.add_argument("--variants", nargs="+", metavar="V", help="what it measures (all that its runtimes run)")
    add.add_argument("--again", action="store_true", help="the device has changed: write its fingerprint anew")
    add.set_defaults(run=enrol.run)

    show = commands.add_parser("list", help="the inventory and the plan")
    show.set_defaults(run=look.list_devices)
    for name, run, text in (
        ("probe", look.probe, "what a device says about itself, and whether it is still the one that was enrolled"),
        ("doctor", look.doctor, "what is missing on a device, and the command that installs it"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("name", help="a device of the inventory")
        sub.set_defaults(run=run)

    measure = commands.add_parser("bench", help="dvc repro with the devices side by side; the report names the absent")
    measure.add_argument("devices", nargs="*", metavar="DEVICE", help="these only (all of the plan)")
    measure.set_defaults(run=bench.run)

    check = commands.add_parser("accuracy", help="score test pictures on a device and compare with evaluate")
    check.add_argument("name", help="a device of the inventory")
    check.add_argument("variant", help="a variant that evaluate has scored")
    check.add_argument("--images", type=int, default=32, metavar="N", help="of them, half good and half defect")
    check.add_argument("--kernels", choices=KERNELS, help="TFLite's own kernels there instead of XNNPACK's")
    check.set_defaults(run=accuracy.run)

    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except Unavailable as error:
        return _fail(str(error), 75)
    except UserError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _fail(message: str, code: int) -> int:
    print(f"error: {one_line(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

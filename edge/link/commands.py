"""The command `keys`: new keys for a device and its server."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge.errors import UserError, shown
from edge.link.keys import new_keys, write_keys


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("keys", help="make the keys with which a device seals what it sends")
    parser.add_argument("id", help="the id of the new key, such as 2026-11; it stands in each message")
    parser.add_argument("device", help="the new file for the device")
    parser.add_argument("server", help="the new file for the server, which opens what the device sends")
    parser.add_argument(
        "--shared",
        action="store_true",
        help="one secret for both, instead of a pair of which the device can open nothing",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints which files it wrote, and nothing of what is in them."""
    device, server = new_keys(arguments.id, not arguments.shared)
    write_keys(arguments.device, device)
    try:
        write_keys(arguments.server, server)
    except UserError:
        Path(arguments.device).unlink()
        raise
    print(f"{shown(arguments.device)}: for the device, {shown(arguments.server)}: for the server; both of mode 0600")
    return 0

"""Networks by a hub name or a local folder in hub layout, of which no code is run; weights are safetensors."""

import os
import re
from contextlib import contextmanager
from typing import Any

import torch
from transformers.utils import cached_file

from edge.errors import UserError
from stages.common.textfile import short

# of a file that torch can't be made to run code from, as what the rest computes in; and what was not in it
WEIGHTS = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}


def located(key: str, name: str, otherwise: str) -> tuple[str, dict[str, Any]]:
    """What transformers calls the network that the param `key` names, and the options to load it with: a local folder,
    or a name on the hub, whose version `name@revision` pins (a branch, tag or commit; without it the hub's main).

    No code that comes with a network is run, and weights are read as safetensors, never as pickle. otherwise: what
    else the param can be, for the message.
    """
    shown = f"{key} = {short(name)}"
    hub, at, revision = name.partition("@")
    try:
        local, base = os.path.isdir(name), bool(at) and os.path.isdir(hub)
    except ValueError as error:  # a zero byte
        raise UserError(f"{shown}: {error}; correct it") from None
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local}
    if local:
        return name, options
    if base:
        raise UserError(f"{shown}: a local folder has no revision; leave out @{short(revision)}")
    if name.startswith((".", "/", "~")) or hub.count("/") > 1:
        raise UserError(f"{shown}: no such folder; give a folder, a Hugging Face name or {otherwise}")
    if at and not re.fullmatch(r"\w[\w./-]{0,199}", revision):
        raise UserError(f"{shown}: after @ comes a branch, tag or commit of the hub; correct it")
    return hub, options | ({"revision": revision} if at else {})


@contextmanager
def explained(key: str, name: str):
    """UserError for whatever transformers raises for a folder or name that it can't load."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it checks little of what a config says, so that anything may be raised
        why = short((str(error).strip() or type(error).__name__).splitlines()[0], 300)
        if "trust_remote_code" in str(error):
            why = "it needs code that comes with it (auto_map), which is never run"
        raise UserError(f"{key} = {short(name)}: can't be loaded ({why}); check the name or folder") from None


def file(place: str, name: str, options: dict) -> str:
    """The path of a file of a network, fetched from the hub unless it is a local one; OSError where there is none."""
    wanted = {key: value for key, value in options.items() if key != "trust_remote_code"}
    found = cached_file(place, name, **wanted)
    if found is None:
        raise OSError(f"there is no {name}")
    return found

"""The state of a training that survives a kill, kept outside the outputs, which DVC removes before a stage runs."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stages.common import atomic

STAGES = Path(__file__).resolve().parents[1]
CODE = ("graph", "detectors", "training")  # the packages whose code a training depends on
FOLDER = Path(".checkpoints")
SEPARATOR = "/"


def fingerprint(model, data, *settings) -> str:
    """A hash of all that a training depends on: initial weights, code, data, settings, torch version and threads."""
    digest = hashlib.sha256(repr((settings, torch.__version__, torch.get_num_threads())).encode())
    for folder in CODE:
        for path in sorted((STAGES / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    for value in [*model.state_dict().values(), *data]:
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:20]


class Checkpoint:
    """The file of one training, named by its label and fingerprint; saving it removes older ones of the label."""

    def __init__(self, stage: str, label: str, key: str):
        self.path = FOLDER / stage / f"{label}-{key}.safetensors"

    def save(self, **groups: dict[str, torch.Tensor]) -> None:
        """Writes groups of named tensors."""
        flat = {f"{group}{SEPARATOR}{name}": value for group, part in groups.items() for name, value in part.items()}
        with atomic.file(self.path) as temporary:
            save_file({name: value.detach().cpu().clone().contiguous() for name, value in flat.items()}, temporary)
        for old in self.path.parent.glob(f"{self.path.name.rpartition('-')[0]}-*.safetensors"):
            if old != self.path:
                old.unlink()

    def load(self) -> dict[str, dict[str, torch.Tensor]] | None:
        """The groups that were saved; None when there is no file that can be read."""
        try:
            flat = load_file(self.path)
        except (FileNotFoundError, SafetensorError):
            return None
        groups: dict[str, dict[str, torch.Tensor]] = {}
        for name, value in flat.items():
            group, _, rest = name.partition(SEPARATOR)
            groups.setdefault(group, {})[rest] = value
        return groups


def moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimizer as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, one in state.items() for name, value in one.items()}


def restore_moments(optimizer: torch.optim.Optimizer, saved: dict[str, torch.Tensor]) -> None:
    """Gives an optimizer with one group of parameters what `moments` said of it."""
    parameters = optimizer.param_groups[0]["params"]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in saved.items():
        index, _, part = name.partition(".")
        like = parameters[int(index)]  # in its memory layout, so that every sum is the same as without a break
        state.setdefault(int(index), {})[part] = torch.empty_like(like).copy_(value) if value.dim() else value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def clear(stage: str) -> None:
    """Removes the checkpoints of a stage: its outputs are written."""
    shutil.rmtree(FOLDER / stage, ignore_errors=True)

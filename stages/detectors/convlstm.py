"""A convolutional LSTM (Shi et al., NIPS 2015) that predicts the last frame of a clip from those before it.

As in Medel & Savakis (2016) and Luo et al. (ICME 2017) the error of the prediction is the anomaly. The map is its mean
in patches of 8 x 8 pixels, since the largest patch says more than the mean of the frame. The network is unrolled: a
list of nodes in which every step has convolutions of its own with the weights of all others, so that it becomes int8 as
any other one does. Each gate has its own convolutions: one for all gates would have to be split.

With `streaming` it is one step, whose state is an input and an output. It learns to predict every frame of a clip but
the first, since that is what it does on the device.
"""

from copy import deepcopy
from types import SimpleNamespace
from typing import Annotated, Any, Self

import numpy as np
import torch
from pydantic import Field

from edge.errors import UserError
from stages.common.schema import Epochs, Rate, Section
from stages.detectors.base import MAP, Export, Run, check_samples
from stages.detectors.network_detector import NetworkDetector
from stages.graph.network import Network, Node
from stages.graph.streaming import run as streamed
from stages.graph.streaming import steps
from stages.graph.tensors import to_tensor
from stages.training.loop import minimise

PLAIN: dict[str, Any] = {"norm": False, "act": False}
EDGE = 8  # channels of the layers next to the picture: a choice


class Settings(Section):
    channels: Annotated[int, Field(ge=4, le=256)] = 16  # of the state
    streaming: bool = False  # one step a frame, whose state is an input and an output, instead of all steps
    epochs: Epochs = 10
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    lr: Rate = 0.002


def step_nodes(frame: str, step: str, channels: int, before: tuple[str, str] | None) -> list[Node]:
    """The nodes of a step, whose names end in _`step`, from a frame: encoder (stride 4), gates, cell and hidden state.

    before: hidden state and cell of the step before; None where both are zero, and what they are multiplied with is
    left out.
    """
    nodes = [
        Node(f"fine_{step}", "conv", (frame,), EDGE, 3, 2, norm=False),
        Node(f"coarse_{step}", "conv", (f"fine_{step}",), channels, 3, 2, norm=False),
    ]
    for gate, kind in {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "new": "tanh"}.items():
        if gate == "forget" and not before:
            continue
        nodes.append(Node(f"{gate}_x_{step}", "conv", (f"coarse_{step}",), channels, 3, **PLAIN))
        if before:
            nodes.append(Node(f"{gate}_h_{step}", "conv", (before[0],), channels, 3, **PLAIN))
            nodes.append(Node(f"{gate}_sum_{step}", "add", (f"{gate}_x_{step}", f"{gate}_h_{step}")))
        nodes.append(Node(f"{gate}_{step}", kind, (nodes[-1].name,)))
    if before:
        nodes += [
            Node(f"kept_{step}", "mul", (f"forget_{step}", before[1])),
            Node(f"taken_{step}", "mul", (f"input_{step}", f"new_{step}")),
            Node(f"cell_{step}", "add", (f"kept_{step}", f"taken_{step}")),
        ]
    else:
        nodes.append(Node(f"cell_{step}", "mul", (f"input_{step}", f"new_{step}")))
    return [
        *nodes,
        Node(f"squashed_{step}", "tanh", (f"cell_{step}",)),
        Node(f"hidden_{step}", "mul", (f"output_{step}", f"squashed_{step}")),
    ]


def change_nodes(hidden: str) -> list[Node]:
    """The nodes from a hidden state to the change that it predicts (stride 2)."""
    return [
        Node("up", "up", (hidden,)),
        Node("decoded", "conv", ("up",), EDGE, 3, norm=False),
        Node("change", "conv", ("decoded",), 1, 3, **PLAIN),
    ]


def score_nodes(predicted: str) -> list[Node]:
    """The nodes that compare a prediction with the frame `now`."""
    return [
        Node("error", "sub", (predicted, "now")),
        Node("sides", "conv", ("error",), 2, norm=False, act="relu"),
        Node("score", "conv", ("sides",), 1, 4, 4, **PLAIN),
    ]


def unrolled(frames: int, channels: int) -> list[Node]:
    """The nodes of the whole network: the last frame (stride 2) is predicted as the one before and a change."""
    nodes = []
    for t in range(frames - 1):
        before = (f"hidden_{t - 1}", f"cell_{t - 1}") if t else None
        frame = Node(f"frame_{t}", "conv", ("input",), 1, **PLAIN)
        nodes += [frame, *step_nodes(frame.name, str(t), channels, before)]
    return [
        *nodes,
        *change_nodes(nodes[-1].name),
        Node("before", "conv", ("input",), 1, 2, 2, **PLAIN),
        Node("predicted", "add", ("change", "before")),
        Node("now", "conv", ("input",), 1, 2, 2, **PLAIN),
        *score_nodes("predicted"),
    ]


def one_step(channels: int) -> list[Node]:
    """The nodes of one step of the same network, which takes a frame and its states: the hidden state, the cell and
    what was predicted of this frame."""
    return [
        Node("hidden", "state", ("input",), channels, stride=4, options={"next": "hidden_now"}),
        Node("cell", "state", ("input",), channels, stride=4, options={"next": "cell_now"}),
        Node("predicted", "state", ("input",), 1, stride=2, options={"next": "predicted_next"}),
        Node("now", "conv", ("input",), 1, 2, 2, **PLAIN),
        *score_nodes("predicted"),
        *step_nodes("input", "now", channels, ("hidden", "cell")),
        *change_nodes("hidden_now"),
        Node("predicted_next", "add", ("change", "now")),
    ]


@torch.no_grad()
def new_network(frames: int, channels: int, streaming: bool = False) -> Network:
    """The network with random weights, and fixed ones where it selects frames and takes means and magnitudes; for all
    frames of a clip, or for one at a time."""
    network = Network(one_step(channels), 1) if streaming else Network(unrolled(frames, channels), frames)
    fixed = {f"frame_{t}": t for t in range(frames - 1)} | {"before": frames - 2, "now": frames - 1}
    fixed = {"now": 0} if streaming else fixed
    for name, conv in network.layers.items():
        if name in (*fixed, "sides", "score"):
            conv.weight.zero_()
            conv.bias.zero_()
            conv.requires_grad_(False)
        if name in fixed:
            conv.weight[:, fixed[name]] = 1 / conv.weight[0, 0].numel()
        if streaming and "_h_" in name:  # a gate has one bias, so that a state of zeros adds nothing
            conv.bias.zero_()
            conv.bias.requires_grad_(False)
    network.layers["sides"].weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0])  # relu of both: the magnitude
    network.layers["score"].weight.fill_(1 / 16)
    network.layers["change"].weight.mul_(0.1)  # at first nothing changes
    for name, conv in network.layers.items():
        if name.startswith("forget_x"):
            conv.bias.fill_(1.0)  # at first nothing is forgotten (Jozefowicz et al., ICML 2015)
    return network


def tie(network: Network) -> None:
    """Makes the layers of all steps share their weights: those of the first step that has them."""
    first: dict[str, Any] = {}
    for name, op in network.ops.items():
        part, _, step = name.rpartition("_")
        if name in network.layers and step.isdigit() and part != "frame":
            op.conv = first.setdefault(part, op.conv)


def untie(network: Network) -> Network:
    """A network whose layers have weights of their own, so that it can be saved and exported."""
    free = Network(network.nodes, network.channels)
    free.load_state_dict(deepcopy(network.state_dict()))
    return free.eval()


class ConvLSTM(NetworkDetector):
    """A network of nodes with the one output `score`: the mean magnitude of the prediction's error, at stride 8."""

    kind = "convlstm"
    Settings = Settings

    @classmethod
    def fit(cls, train: np.ndarray, val: np.ndarray, settings: Any, run: Run) -> Self:
        """Trains it to predict the last frame of good samples (streaming: all but the first); `val` is not used."""
        check_samples(train, "train", 2)
        frames = train.shape[3]
        if frames < 2:
            raise UserError("a convlstm predicts a frame from those before it; set input.color: grey and input.frames")
        torch.manual_seed(run.seed)
        network = new_network(frames, settings.channels, settings.streaming)
        if not settings.streaming:
            tie(network)

        def loss(pick: torch.Tensor) -> torch.Tensor:
            values = list(steps(step, network, to_tensor(train[pick.numpy()]), warm=0))
            predicted = values[1:] or values  # of a first frame from zero states nothing was predicted
            return sum(found["error"].square().mean() for found in predicted) / len(predicted) * 1000

        step = streamed(network)
        given = settings.epochs, settings.batch, settings.lr, run.seed, run.stage, "convlstm", run.log
        minimise(network, loss, (train,), *given, settings=(settings.channels,))
        return cls(network.eval() if settings.streaming else untie(network))

    def export(self) -> Export:
        return Export(self.network, {"score": MAP})

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        return SimpleNamespace(channels=4, streaming=False, epochs=2, batch=4, lr=0.002), None

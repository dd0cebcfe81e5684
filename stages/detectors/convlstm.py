"""A convolutional LSTM (Shi et al., NIPS 2015) that predicts the last frame of a clip from those before it.

As in Medel & Savakis (2016) and Luo et al. (ICME 2017) the error of the prediction is the anomaly. The map is its mean
in patches of 8 x 8 pixels, since the largest patch says more than the mean of the frame. The network is unrolled: a
list of nodes in which every step has convolutions of its own with the weights of all others, so that it becomes int8 as
any other one does. Each gate has its own convolutions: one for all gates would have to be split.
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
from stages.graph.tensors import to_tensor
from stages.training.loop import minimise

PLAIN: dict[str, Any] = {"norm": False, "act": False}
EDGE = 8  # channels of the layers next to the picture: a choice


class Settings(Section):
    channels: Annotated[int, Field(ge=4, le=256)] = 16  # of the state
    epochs: Epochs = 10
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    lr: Rate = 0.002


def step_nodes(t: int, channels: int) -> list[Node]:
    """The nodes of step t, which reads frame t: encoder (stride 4), gates, cell and hidden state; at first both are
    zero, and what they are multiplied with is left out."""
    nodes = [
        Node(f"frame_{t}", "conv", ("input",), 1, **PLAIN),
        Node(f"fine_{t}", "conv", (f"frame_{t}",), EDGE, 3, 2, norm=False),
        Node(f"coarse_{t}", "conv", (f"fine_{t}",), channels, 3, 2, norm=False),
    ]
    for gate, kind in {"input": "sigmoid", "forget": "sigmoid", "output": "sigmoid", "new": "tanh"}.items():
        if gate == "forget" and t == 0:
            continue
        nodes.append(Node(f"{gate}_x_{t}", "conv", (f"coarse_{t}",), channels, 3, **PLAIN))
        if t:
            nodes.append(Node(f"{gate}_h_{t}", "conv", (f"hidden_{t - 1}",), channels, 3, **PLAIN))
            nodes.append(Node(f"{gate}_sum_{t}", "add", (f"{gate}_x_{t}", f"{gate}_h_{t}")))
        nodes.append(Node(f"{gate}_{t}", kind, (nodes[-1].name,)))
    if t:
        nodes += [
            Node(f"kept_{t}", "mul", (f"forget_{t}", f"cell_{t - 1}")),
            Node(f"taken_{t}", "mul", (f"input_{t}", f"new_{t}")),
            Node(f"cell_{t}", "add", (f"kept_{t}", f"taken_{t}")),
        ]
    else:
        nodes.append(Node("cell_0", "mul", ("input_0", "new_0")))
    return [
        *nodes,
        Node(f"squashed_{t}", "tanh", (f"cell_{t}",)),
        Node(f"hidden_{t}", "mul", (f"output_{t}", f"squashed_{t}")),
    ]


def unrolled(frames: int, channels: int) -> list[Node]:
    """The nodes of the whole network: the last frame (stride 2) is predicted as the one before and a change."""
    steps = [node for t in range(frames - 1) for node in step_nodes(t, channels)]
    return [
        *steps,
        Node("up", "up", (steps[-1].name,)),
        Node("decoded", "conv", ("up",), EDGE, 3, norm=False),
        Node("change", "conv", ("decoded",), 1, 3, **PLAIN),
        Node("before", "conv", ("input",), 1, 2, 2, **PLAIN),
        Node("predicted", "add", ("change", "before")),
        Node("now", "conv", ("input",), 1, 2, 2, **PLAIN),
        Node("error", "sub", ("predicted", "now")),
        Node("sides", "conv", ("error",), 2, norm=False, act="relu"),
        Node("score", "conv", ("sides",), 1, 4, 4, **PLAIN),
    ]


@torch.no_grad()
def new_network(frames: int, channels: int) -> Network:
    """The network with random weights, and fixed ones where it selects frames and takes means and magnitudes."""
    network = Network(unrolled(frames, channels), frames)
    fixed = {f"frame_{t}": t for t in range(frames - 1)} | {"before": frames - 2, "now": frames - 1}
    for name, conv in network.layers.items():
        if name in (*fixed, "sides", "score"):
            conv.weight.zero_()
            conv.bias.zero_()
            conv.requires_grad_(False)
        if name in fixed:
            conv.weight[:, fixed[name]] = 1 / conv.weight[0, 0].numel()
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
        """Trains it to predict the last frame of good samples; `val` is not used."""
        check_samples(train, "train", 2)
        frames = train.shape[3]
        if frames < 2:
            raise UserError("a convlstm predicts a frame from those before it; set input.color: grey and input.frames")
        torch.manual_seed(run.seed)
        network = new_network(frames, settings.channels)
        tie(network)

        def loss(pick: torch.Tensor) -> torch.Tensor:
            return network.activations(to_tensor(train[pick.numpy()]))["error"].square().mean() * 1000

        given = settings.epochs, settings.batch, settings.lr, run.seed, run.stage, "convlstm", run.log
        minimise(network, loss, (train,), *given, settings=(settings.channels,))
        return cls(untie(network))

    def export(self) -> Export:
        return Export(self.network, {"score": MAP})

    @classmethod
    def example(cls) -> tuple[SimpleNamespace, None]:
        return SimpleNamespace(channels=4, epochs=2, batch=4, lr=0.002), None

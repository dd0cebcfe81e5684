"""Clips through a network with states, one after the other: for training, calibration and the check of files.

As on a device the state is zero at first, and the first sample is given once more for each one that the clip has
behind it: it stands in for those that were before the clip.
"""

from collections.abc import Callable, Iterator, Mapping

import torch

from stages.graph.network import Network

Values = dict[str, torch.Tensor]
Run = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], Values]  # a sample, the states; the values of all nodes


def warmup(network: Network, channels: int) -> int:
    """How often a device gives the first sample once more: for clips of that many channels one less than there are
    samples in them."""
    return channels // network.channels - 1 if network.states else 0


def run(network: Network) -> Run:
    """The network in float."""
    return lambda sample, given: network.continued({"input": sample, **given})


def steps(run: Run, network: Network, clips: torch.Tensor, warm: int | None = None) -> Iterator[Values]:
    """The values of all nodes at each sample of clips [N, T, H, W], in order; of a network without states they are one.

    warm: how often the first sample is given before (None: `warmup`).
    """
    if not network.states:
        yield run(clips, {})
        return
    samples = clips.split(network.channels, 1)
    given: Values = {}
    for sample in [samples[0]] * (warmup(network, clips.shape[1]) if warm is None else warm) + list(samples):
        values = run(sample, given)
        yield values
        given = {state: values[following] for state, following in network.states.items()}


def last(run: Run, network: Network, clips: torch.Tensor, warm: int | None = None) -> Values:
    """The values of all nodes at the last sample of clips [N, T, H, W]."""
    for values in steps(run, network, clips, warm):  # noqa: B007
        pass
    return values


def drawn(network: Network, clips: torch.Tensor) -> Values:
    """The input of a network and its states, in float, as a batch drawn from `steps`: at every step some of the clips,
    so that there is at least one of each clip and of each step. Without states all clips."""
    if not network.states:
        return {"input": clips}
    count, found = len(clips), []
    total = warmup(network, clips.shape[1]) + clips.shape[1] // network.channels
    for step, values in enumerate(steps(run(network), network, clips)):
        rows = torch.arange(step % count, count, total)
        found.append({name: values[name][rows] for name in ("input", *network.states)})
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}

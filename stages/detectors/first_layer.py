"""The first layer of a network that was trained on colour pictures, for a clip of grey frames."""

import torch


def over_time(weight: torch.Tensor, frames: int) -> torch.Tensor:
    """The weights [O, 3, k, k] for `frames` grey channels, the last being now: [O, frames, k, k].

    Every filter sees the last frame as a grey picture. Every second one also sees it minus an earlier frame, one back,
    two back and so on in turn, with the same kernel: a still clip gives the features of the picture, and what moves
    adds its change.
    """
    grey = weight.sum(1)
    found = grey.new_zeros(len(grey), frames, *grey.shape[1:])
    found[:, -1] = grey
    for i in range(1, len(grey), 2) if frames > 1 else ():
        found[i, -1] += grey[i]
        found[i, -2 - (i // 2) % (frames - 1)] -= grey[i]
    return found

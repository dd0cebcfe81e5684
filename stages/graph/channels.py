"""The number of channels of a layer: a multiple of what int8 kernels work in (`make_divisible`)."""

import math

DIVISOR = 8  # XNNPACK's int8 kernels work in tiles of 8 channels


def make_divisible(channels: float, up: bool = False) -> int:
    """The nearest multiple of DIVISOR, at least one of it; the next one with `up` (cf. MobileNet's make_divisible)."""
    tiles = math.ceil(channels / DIVISOR) if up else int(channels + DIVISOR / 2) // DIVISOR
    return DIVISOR * max(1, tiles)

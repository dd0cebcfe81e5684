"""The number of channels of a layer: a multiple of DIVISOR, which vectorised kernels like (`make_divisible`)."""

import math

DIVISOR = 8  # as in MobileNet; which tile each int8 kernel works in was not looked up


def make_divisible(channels: float, up: bool = False) -> int:
    """The nearest multiple of DIVISOR, at least one of it; the next one with `up` (cf. MobileNet's make_divisible)."""
    tiles = math.ceil(channels / DIVISOR) if up else int(channels + DIVISOR / 2) // DIVISOR
    return DIVISOR * max(1, tiles)

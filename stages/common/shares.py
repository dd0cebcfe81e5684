"""Shares of a whole as text."""


def percent(share: float, unit: str = " %") -> str:
    """E.g. "0.13 %": three significant digits at most."""
    return f"{100 * share:.3g}{unit}"

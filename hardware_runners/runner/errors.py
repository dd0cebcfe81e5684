"""What can go wrong with a device, as one line."""

from edge.errors import UserError


class RunnerError(UserError):
    """A measurement that could not be made; the message says on which device and why."""


class Unavailable(RunnerError):
    """A device that can't be measured now, though nothing is wrong with it: unreachable, lost or busy."""

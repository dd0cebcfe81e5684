"""What can go wrong with a device, as one line."""


class RunnerError(Exception):
    """A measurement that could not be made; the message says on which device and why."""

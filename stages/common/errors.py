"""What a user can cause, as one line."""


class UserError(Exception):
    """Bad input: the message says what, where and what to do; the stage prints it and exits with 1."""

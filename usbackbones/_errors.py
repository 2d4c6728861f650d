"""The error below all of ours that a command ends on: one line, exit code 2, no traceback."""


class Refused(ValueError):
    """What was asked for cannot be done; the message is one line that names the fault, the value and the remedy."""

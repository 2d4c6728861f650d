"""Errors that end a run before its last step."""

INTERRUPTED = 75  # exit code of a run that was asked to stop and can be resumed (sysexits' EX_TEMPFAIL)


class Interrupted(SystemExit):
    """The run was asked to stop; its state is saved."""


class TrainingError(RuntimeError):
    """A run that cannot go on, with the step and the remedy."""

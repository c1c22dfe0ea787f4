"""The two ways serving can fail for a reason its user can mend. serving/ stands alone, so it has its own."""


class UsageError(ValueError):
    """What was asked for cannot be: a port that is taken, a folder without a version, an unknown model name."""

    exit_status = 2


class WorkError(RuntimeError):
    """What was asked for was tried and failed: a server out of reach, a model that does not load."""

    exit_status = 1

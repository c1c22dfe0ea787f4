"""The two ways work can fail for a reason its user can mend; the command line turns each into one line and a status."""


class UsageError(ValueError):
    """What was asked for cannot be: an unknown key, a missing folder, a value out of range."""

    exit_status = 2


class WorkError(RuntimeError):
    """What was asked for was tried and failed: drift, too many bad images, a model below its floor."""

    exit_status = 1

"""How work ends before its time, by what its user can mend or asked for; the command line makes a line and a status."""


class UsageError(ValueError):
    """What was asked for cannot be: an unknown key, a missing folder, a value out of range."""

    exit_status = 2


class WorkError(RuntimeError):
    """What was asked for was tried and failed: drift, too many bad images, a model below its floor."""

    exit_status = 1


class Diverged(WorkError):
    """A training came to a loss or weights that are not finite: its settings are bad ones, and others may be good."""


class Stopped(BaseException):
    """A run was asked to stop by a signal. No `Exception`: what catches those would take it for one of its own.

    Attributes:
      where: how far the run had come, e.g. "after epoch 4 of 60".
      advice: what to do next.
      exit_status: 128 and the signal's number, as shells have it.
    """

    advice = "the same command goes on"

    def __init__(self, number: int):
        super().__init__(number)
        self.where = "before it began"
        self.exit_status = 128 + number

    def __str__(self) -> str:
        return f"stopped {self.where}; {self.advice}"


def shown(text: str) -> str:
    """A text with everything that a terminal would not print as itself escaped: names of files may hold anything.

    Line breaks, escape sequences, marks that turn the direction of writing and bytes that are no UTF-8 come out as
    Python writes them, such as `\\n` and `\\x1b`.
    """
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def first_line(error: BaseException) -> str:
    """The type of an error that nobody foresaw, and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__

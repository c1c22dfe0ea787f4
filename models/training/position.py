"""How far a training is, told to whoever watches: a bar on a terminal, the record of a run. Imports nothing heavy."""

import contextlib
import dataclasses
from collections.abc import Callable
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a training is.

    Attributes:
      done: epochs that are finished, and saved where checkpoints are.
      epochs: how many there will be.
      step: steps done of the epoch under way.
      steps: of each epoch.
    """

    done: int
    epochs: int
    step: int
    steps: int


_watchers: list[Callable[[Position], None]] = []


@contextlib.contextmanager
def watched(watcher: Callable[[Position], None]) -> Iterator[None]:
    """Calls `watcher` after each step of whatever trains in this process while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def tell(position: Position) -> None:
    """Tells all watchers."""
    for watcher in _watchers:
        watcher(position)

def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"

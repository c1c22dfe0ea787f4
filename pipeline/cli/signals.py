"""Ends a server, or a run, when a person or a supervisor asks for it."""

import contextlib
import os
import queue
import signal
from collections.abc import Iterator
from typing import Any

from longtail.models import errors

_LOOK_S = 0.5


class Stop:
    """Whether SIGINT or SIGTERM came, for the main thread, in which handlers run.

    A handler runs between two steps of that thread, also while it takes a lock to wait, or writes to the log. A
    `threading.Event` set there waits for ever for the lock that its own thread holds; a `queue.SimpleQueue` has none.
    """

    def __init__(self) -> None:
        self._numbers: queue.SimpleQueue[int] = queue.SimpleQueue()

    def ask(self, number: int) -> None:
        """Notes that the signal came, and says so in a line; all that a handler may do."""
        self._numbers.put(number)
        name = signal.Signals(number).name
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, f"  {name}: finishing the requests under way; once more ends at once\n".encode())

    def is_asked(self) -> bool:
        """Whether one came and was not waited for yet."""
        return not self._numbers.empty()

    def wait(self) -> None:
        """Returns once one came."""
        while True:
            with contextlib.suppress(queue.Empty):
                # A signal that came on the last step before this sleeps, or to another thread, does not wake it.
                self._numbers.get(timeout=_LOOK_S)
                return


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """What SIGINT and SIGTERM ask while the block runs; a second one of them does what it did before."""
    stop = Stop()
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, frame: Any) -> None:
        signal.signal(number, before[number])
        stop.ask(number)

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def stops() -> Iterator[None]:
    """While the block runs SIGINT and SIGTERM raise `errors.Stopped` in it; a second one ends the process at once."""
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: Any) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        raise errors.Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

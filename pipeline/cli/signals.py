"""Ends a server, or a run, when a person or a supervisor asks for it."""

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

from longtail.models import errors

log = logging.getLogger("longtail")


@contextlib.contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, which is said in a line; a second one of them does what it did before."""
    stop = threading.Event()
    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, frame: Any) -> None:
        stop.set()
        signal.signal(number, before[number])
        name = signal.Signals(number).name
        log.info("%s: finishing the requests under way; once more ends at once", name)

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

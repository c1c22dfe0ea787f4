"""Looks every few seconds whether something has changed: versions, a config file, tokens. In a thread of its own."""

import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence

from longtail.models import errors

log = logging.getLogger("longtail")


class Watcher:
    """Calls each of `polls` every `seconds`, until stopped. One that raises is told once, and called again.

    Args:
      polls: called in order, in one thread.
      seconds: the pause between two rounds, above 0.
    """

    def __init__(self, polls: Sequence[Callable[[], None]], seconds: float):
        self._polls = polls
        self._seconds = seconds
        self._said = [""] * len(polls)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()

    def look(self) -> None:
        """A round."""
        for number, poll in enumerate(self._polls):
            said = ""
            try:
                poll()
            except Exception as error:  # what cannot be now may be in the next round
                said = str(error) or repr(error)
                if said != self._said[number]:
                    why = None if isinstance(error, errors.UsageError) else error
                    log.error("%s; until it can be, all stays as it was", said, exc_info=why)
            self._said[number] = said

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def begin_stop(self) -> None:
        """Begins no more rounds, and does not wait for the one under way."""
        self._stop.set()

    def stop(self, timeout_s: float | None = None) -> None:
        """Ends the thread; a load under way is finished first, where that takes no longer than `timeout_s` seconds."""
        self.begin_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

"""Looks for new versions every few seconds, in a thread of its own."""

import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence

log = logging.getLogger("longtail")


class Watcher:
    """Calls each of `polls` every `seconds`, until stopped.

    Args:
      polls: called in order, in one thread.
      seconds: the pause between two rounds, above 0.
    """

    def __init__(self, polls: Sequence[Callable[[], None]], seconds: float):
        self._polls = polls
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="version-watcher", daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for poll in self._polls:
                try:
                    poll()
                except Exception:  # a folder out of reach now may be back in the next round
                    log.exception("looking for new versions failed; trying again in %g s", self._seconds)

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

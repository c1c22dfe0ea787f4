"""What waits in `grpc_core`: replies for their clients to take them, and work for the polling thread."""

import collections
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

from longtail.serving.model_server import request_errors

if TYPE_CHECKING:
    from longtail.serving.model_server import grpc_call

log = logging.getLogger("longtail")

_STALLED_S = 1.0  # in which a client should have taken its reply, where others wait for room


class Replies:
    """Counts the bytes of replies on their way."""

    def __init__(self, limit: int):
        self._limit = limit
        self._changed = threading.Condition()
        self._sizes: dict[grpc_call.Call, int] = {}
        self._dropped: set[grpc_call.Call] = set()
        self._total = 0

    def add(self, call: "grpc_call.Call", size: int, wait_s: float = 0.0) -> bool:
        """Takes a reply in, if there is room, or within `wait_s` seconds room is made; a call's is taken in once."""
        until = time.monotonic() + wait_s
        with self._changed:
            while call not in self._sizes:
                if not self._sizes or self._total + size <= self._limit:
                    self._sizes[call] = size
                    self._total += size
                else:
                    self._drop_stalled()
                    left = until - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(min(left, _STALLED_S))
        return True

    def _drop_stalled(self) -> None:
        """Cancels the calls whose clients have had their time; they count until the core lets go of their replies."""
        before = time.monotonic() - _STALLED_S
        for call in [call for call in self._sizes if call not in self._dropped and call.is_stalled(before)]:
            self._dropped.add(call)
            call.cancel()

    def remove(self, call: "grpc_call.Call") -> None:
        """Forgets the reply of a call that is over."""
        if call in self._sizes:
            with self._changed:
                self._total -= self._sizes.pop(call, 0)
                self._dropped.discard(call)
                self._changed.notify_all()


class Soon:
    """What other threads want the polling thread to do."""

    def __init__(self) -> None:
        self._functions: collections.deque[Callable[[], None]] = collections.deque()
        self._is_told = False

    def add(self, function: Callable[[], None]) -> bool:
        """Adds something to do; whether the polling thread is to be told, which it was not yet."""
        self._functions.append(function)
        was_told, self._is_told = self._is_told, True
        return not was_told

    def run(self, event: Any) -> None:
        """Does all of it."""
        self._is_told = False  # before: what is added from now on is told again
        while self._functions:
            try:
                self._functions.popleft()()
            except Exception as error:  # one of them must not take the others along
                log.exception("a gRPC call was lost: %s", request_errors.first_line(error))

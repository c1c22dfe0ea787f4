"""Requests that wait to be put together, and the options that say how."""

import collections
import dataclasses
import os
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from longtail.serving.model_server import metrics
from longtail.serving.model_server.runtime import servable as servable_lib

if TYPE_CHECKING:
    from longtail.serving.model_server.batching import scheduler

# Shares of the timeout, for a server that has nothing to do:
_PAUSE = 0.1  # a pause between requests in which it does not wait for the next
_LINGER = 0.2  # it waits no longer than this, however fast they come
# Sizes of batches, where requests can be had in any number. TensorFlow compiles its kernels for every size anew, and
# keeps about a thousand: with every size there is it compiles for ever, and its memory grows.
_USUAL = frozenset([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128])


@dataclasses.dataclass(frozen=True)
class Options:
    """As TF Serving's BatchingParameters, with our defaults."""

    max_batch_size: int = 32  # rows; a request of more runs alone, and of larger ones an image costs hardly less
    batch_timeout_micros: int = 40_000  # longest wait of a request for others
    max_enqueued_batches: int = 512  # full ones that may wait for each signature; what comes beyond is refused
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)  # batches at once

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ValueError(f"batch_timeout_micros must not be below 0. Received: {self.batch_timeout_micros}")

    @property
    def timeout_s(self) -> float:
        """Longest wait of a request for others, seconds."""
        return self.batch_timeout_micros / 1e6


class Pace:
    """How fast requests come, lately, and so whether the next is worth waiting for."""

    def __init__(self, options: Options):
        self._longest = _PAUSE * options.timeout_s
        self._pause = 2 * self._longest
        self._last_at = 0.0

    def add(self, now: float) -> None:
        """Counts a request."""
        # One long pause says little: clients that were all answered at once are all silent at once.
        self._pause += 0.1 * (min(now - self._last_at, 2 * self._longest) - self._pause)
        self._last_at = now

    def wait_s(self) -> float:
        """How long after a request the next is worth waiting for, seconds."""
        return 0.0 if self._pause > self._longest else min(3 * self._pause, self._longest)


class Queue:
    """Requests that can go into one batch: they ask the same signature for rows of the same shape.

    Args:
      key: what tells it from other queues.
      signature: what they ask.
      limit: rows in a batch; 1 where each request runs alone, however many rows it has.
    """

    def __init__(self, key: Hashable, signature: servable_lib.Signature, limit: int):
        self.key = key
        self.signature = signature
        self.limit = limit
        self.tickets: collections.deque[scheduler.Ticket] = collections.deque()
        self._rows = 0
        self._last_at = 0.0

    def is_full(self, rows: int, options: Options) -> bool:
        """Whether a request of so many rows is too much."""
        waiting = len(self.tickets) + 1 if self.limit == 1 else self._rows + rows
        return waiting > options.max_enqueued_batches * self.limit

    def add(self, ticket: "scheduler.Ticket") -> None:
        """Lets a request wait."""
        ticket.queue = self
        self.tickets.append(ticket)
        metrics.QUEUED.inc()
        self._rows += ticket.rows
        self._last_at = ticket.queued_at

    def remove(self, ticket: "scheduler.Ticket") -> None:
        """Lets a request wait no more."""
        ticket.queue = None
        self.tickets.remove(ticket)
        metrics.QUEUED.dec()
        self._rows -= ticket.rows

    def take(self) -> list["scheduler.Ticket"]:
        """The next batch: as many requests as may go into it, or so few less that it has one of the usual sizes."""
        rows = [0]
        for ticket in self.tickets:
            if len(rows) > 1 and rows[-1] + ticket.rows > self.limit:
                break
            rows.append(rows[-1] + ticket.rows)
        count = len(rows) - 1
        usual = [number for number, size in enumerate(rows) if size in _USUAL or size == self.limit]
        if usual and 3 * rows[usual[-1]] >= 2 * rows[-1]:
            count = usual[-1]
        batch = [self.tickets.popleft() for _ in range(count)]
        metrics.QUEUED.dec(count)
        for ticket in batch:
            ticket.queue = None
        self._rows -= rows[count]
        return batch

    def due_at(self, busy: float, pace: Pace, options: Options) -> float:
        """When its next batch is to be run: at once if full, else the later, the larger a share of threads is busy."""
        if self._rows >= self.limit:
            return 0.0
        begun, timeout = self.tickets[0].queued_at, options.timeout_s
        return max(min(self._last_at + pace.wait_s(), begun + _LINGER * timeout), begun + busy * timeout)


def size_of(inputs: servable_lib.Inputs) -> int:
    """How many bytes a request holds."""
    arrays = inputs.values()
    return sum(each.nbytes + (sum(map(len, each.flat)) if each.dtype == np.object_ else 0) for each in arrays)

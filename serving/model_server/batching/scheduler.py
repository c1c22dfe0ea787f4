"""Puts requests together into batches, and runs them in threads of its own.

A batch of 32 images costs the processor a third of what 32 batches of one do. A request waits for others only while
they keep coming, or while the processor is busy with a batch before it, and never longer than `batch_timeout_micros`.
"""

import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Mapping
from collections.abc import Sequence

import grpc
import numpy as np

from longtail.serving.model_server import metrics
from longtail.serving.model_server.batching import queues
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib

log = logging.getLogger("longtail")

_NEVER = float("inf")

Options = queues.Options
Outputs = Mapping[str, np.ndarray]
Done = Callable[[Outputs | request_errors.RequestError], None]


@dataclasses.dataclass(eq=False)
class Ticket:
    """A request that waits, is run, or was: what it asks of which model, its rows and bytes, who takes its result."""

    scheduler: "Scheduler"
    servable: servable_lib.Servable
    inputs: servable_lib.Inputs
    wanted: tuple[str, ...]
    rows: int
    deadline: float
    done: Done
    size: int
    queued_at: float
    queue: queues.Queue | None = None  # where it waits; None once it does not

    def cancel(self) -> bool:
        """Takes the request back, if it waits; whether it did. Its `done` is then not called."""
        return self.scheduler.cancel(self)


class Scheduler:
    """Runs requests in batches. Every front end's requests go through the same one.

    One thread at a time, the one whose turn it is, waits for a batch to be due; the others wait for their turn. Models
    take turns, so that a slow one with many requests does not keep the others waiting.

    Args:
      options: how large batches are, and how long they are waited for.
      most_bytes: of the requests that wait or run; what comes beyond is refused, unless it is the only one.
    """

    def __init__(self, options: Options | None = None, most_bytes: int = 512 << 20):
        self.options = options or Options()
        self._most_bytes = most_bytes
        self._queues: dict[Hashable, queues.Queue] = {}  # those that are not empty
        self._pace = queues.Pace(self.options)
        self._served: dict[str, float] = {}  # model -> when a batch of it was begun last
        self._held = 0  # bytes of requests that wait or run
        self._running = 0
        self._wake_at = -_NEVER  # when the thread whose turn it is looks again by itself
        self._stopping = False
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._due = threading.Condition(self._lock)
        for number in range(self.options.num_batch_threads):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    def submit(
        self,
        servable: servable_lib.Servable,
        signature_name: str,
        inputs: servable_lib.Inputs,
        output_filter: Sequence[str],
        deadline: float | None,
        done: Done,
    ) -> Ticket:
        """Has a request run, and returns what takes it back.

        Args:
          servable: the model, which the caller has acquired; it is held until the request is over.
          signature_name: the signature; the default one where it is empty.
          inputs: alias -> array of the signature's dtype; strings as objects. Nobody changes them any more.
          output_filter: aliases to return; all where it is empty.
          deadline: when the answer is of no use any more, by `time.monotonic`; None for never.
          done: called once, from another thread, with the outputs or with what went wrong, such as DEADLINE_EXCEEDED.

        Raises:
          RequestError: it does not fit the signature; RESOURCE_EXHAUSTED, too many wait; or UNAVAILABLE, the server is
            stopping. `done` is not called then.
        """
        signature = servable.signature(signature_name)
        signature.check(inputs)
        rows, wanted = self._rows(signature, inputs), signature.wanted(output_filter)
        deadline = _NEVER if deadline is None else deadline
        size, now = queues.size_of(inputs), time.monotonic()
        ticket = Ticket(self, servable, inputs, wanted, rows or 1, deadline, done, size, now)
        shapes = tuple(inputs[alias].shape[1:] for alias in signature.inputs) if rows else None
        with self._lock:
            self._admit((signature, shapes), signature, self.options.max_batch_size if rows else 1, ticket)
        return ticket

    def _rows(self, signature: servable_lib.Signature, inputs: servable_lib.Inputs) -> int:
        """The rows of a request that may share a batch; 0 where it must run alone."""
        if not signature.has_rows:
            return 0
        found = {len(array) for array in inputs.values()}
        rows = found.pop()
        return 0 if found or rows > self.options.max_batch_size else rows

    def _admit(self, key: Hashable, signature: servable_lib.Signature, limit: int, ticket: Ticket) -> None:
        if self._stopping:
            raise request_errors.stopping()
        queue = self._queues.get(key) or queues.Queue(key, signature, limit)
        if queue.is_full(ticket.rows, self.options):
            metrics.refused("queue_full")
            raise request_errors.exhausted("The batch scheduling queue to which this task was submitted is full")
        if self._held and self._held + ticket.size > self._most_bytes:
            metrics.refused("too_many")
            raise request_errors.exhausted("The requests under way hold too much memory")
        ticket.servable.hold()
        self._held += ticket.size
        self._queues[key] = queue
        queue.add(ticket)
        self._pace.add(ticket.queued_at)
        if self._due_at(queue) < self._wake_at:
            self._due.notify()

    def _due_at(self, queue: queues.Queue) -> float:
        return queue.due_at(self._running / self.options.num_batch_threads, self._pace, self.options)

    def cancel(self, ticket: Ticket) -> bool:
        """See `Ticket.cancel`."""
        with self._lock:
            queue = ticket.queue
            if queue is None:
                return False
            queue.remove(ticket)
            self._held -= ticket.size
            self._forget_empty(queue)
        metrics.refused("cancelled")
        ticket.servable.release()
        return True

    def _forget_empty(self, queue: queues.Queue) -> None:
        if not queue.tickets:
            del self._queues[queue.key]

    def waiting(self) -> int:
        """Requests that wait to be run."""
        with self._lock:
            return sum(len(queue.tickets) for queue in self._queues.values())

    def _work(self) -> None:
        while True:
            with self._turn:
                found = self._next()
            if found is None:
                return
            held = sum(ticket.size for ticket in found[1])
            try:
                self._run(*found)
            finally:
                del found  # what was asked and answered is not to stay until the next batch
                with self._lock:
                    self._held -= held
                    self._running -= 1
                    if -_NEVER < self._wake_at < _NEVER:  # what waits is less patient with fewer batches under way
                        self._due.notify()

    def _next(self) -> tuple[queues.Queue, list[Ticket]] | None:
        """Waits for a batch; None where there will be none any more."""
        with self._lock:
            while True:
                now = time.monotonic()
                dues = [(self._due_at(queue), queue) for queue in self._queues.values()]
                if ready := [queue for at, queue in dues if at <= now]:
                    queue = min(ready, key=self._rank)
                    batch = queue.take()
                    self._served[batch[0].servable.name] = now
                    self._running += 1
                    self._forget_empty(queue)
                    return queue, batch
                if self._stopping and not self._queues:
                    return None
                self._wake_at = min((at for at, _ in dues), default=_NEVER)
                self._due.wait(None if self._wake_at == _NEVER else self._wake_at - now)
                self._wake_at = -_NEVER

    def _rank(self, queue: queues.Queue) -> tuple[float, float]:
        """Of those that are due, the one of the lowest rank is next."""
        first = queue.tickets[0]
        return self._served.get(first.servable.name, 0.0), first.queued_at

    def _run(self, queue: queues.Queue, batch: Sequence[Ticket]) -> None:
        now = time.monotonic()
        for ticket in batch:
            if ticket.deadline <= now:
                metrics.refused("expired")
                late = grpc.StatusCode.DEADLINE_EXCEEDED
                self._finish(ticket, request_errors.RequestError(late, "Expired before it was run"))
        due = [ticket for ticket in batch if ticket.deadline > now]
        try:
            answers = self._answers(queue, due, now) if due else []
        except Exception as error:  # whatever the model did, each request is to have its answer
            if len(due) == 1:
                self._finish(due[0], request_errors.of(error))
                return
            for ticket in due:  # which of them it was is not known; the others must not suffer
                self._run(queue, [ticket])
            return
        for ticket, answer in zip(due, answers, strict=True):
            self._finish(ticket, answer)

    def _answers(self, queue: queues.Queue, batch: Sequence[Ticket], now: float) -> list[Outputs]:
        signature, rows = queue.signature, [ticket.rows for ticket in batch]
        outputs = signature.run_rows([ticket.inputs for ticket in batch])
        waited = [now - ticket.queued_at for ticket in batch]
        metrics.batch(batch[0].servable.name, rows, waited, time.monotonic() - now)
        if len(batch) == 1:
            return [{alias: outputs[alias] for alias in batch[0].wanted}]
        if any(array.shape[:1] != (sum(rows),) for array in outputs.values()):
            signature.has_rows = False  # although it says it has; from now on each of its requests runs alone
            raise ValueError(f"it was given {sum(rows)} rows, but its outputs have others")
        ends = itertools.accumulate(rows)
        return [
            {alias: outputs[alias][end - ticket.rows : end] for alias in ticket.wanted}
            for end, ticket in zip(ends, batch, strict=True)
        ]

    def _finish(self, ticket: Ticket, result: Outputs | request_errors.RequestError) -> None:
        ticket.servable.release()
        try:
            ticket.done(result)
        except Exception as error:  # one front end's fault must not take the others' answers along
            log.exception("an answer could not be given: %s", request_errors.first_line(error))

    def stop(self) -> None:
        """Takes no more requests; what it has is run, then its threads end. Does not wait for them."""
        with self._lock:
            self._stopping = True
            self._due.notify()

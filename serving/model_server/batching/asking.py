"""Lets coroutines ask the scheduler: an answer comes from a batch thread, and wakes the event loop once a batch."""

import asyncio
import collections
from collections.abc import Sequence

from longtail.serving.model_server.batching import scheduler as scheduler_lib
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib

_Result = scheduler_lib.Outputs | request_errors.RequestError


class Asker:
    """Asks the scheduler from one event loop, that of the thread in which it is used."""

    def __init__(self, scheduler: scheduler_lib.Scheduler):
        self._scheduler = scheduler
        self._answered: collections.deque[tuple[asyncio.Future[_Result], _Result]] = collections.deque()
        self._is_told = False

    async def ask(
        self,
        servable: servable_lib.Servable,
        signature_name: str,
        inputs: servable_lib.Inputs,
        output_filter: Sequence[str],
        deadline: float | None,
    ) -> scheduler_lib.Outputs:
        """The outputs; see `Scheduler.submit`. One that is cancelled while it waits is never run."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Result] = loop.create_future()

        def done(result: _Result) -> None:
            self._answered.append((answer, result))
            if not self._is_told:
                self._is_told = True
                loop.call_soon_threadsafe(self._hand_over)

        ticket = self._scheduler.submit(servable, signature_name, inputs, output_filter, deadline, done)
        try:
            result = await answer
        finally:
            ticket.cancel()  # which does nothing where it was answered
        if isinstance(result, request_errors.RequestError):
            raise result
        return result

    def _hand_over(self) -> None:
        self._is_told = False  # before: what is added from now on is told again
        while self._answered:
            answer, result = self._answered.popleft()
            if not answer.done():
                answer.set_result(result)

"""Calls of many messages, on `grpc_core`: what health's Watch and reflection need, and no more."""

import threading
from typing import Any

from grpc._cython import cygrpc

from longtail.serving.model_server import grpc_call
from longtail.serving.model_server import request_errors


class Stream(grpc_call.Call):
    """A call of one request and replies without end. Of replies the client is too slow for, the latest stands."""

    is_waited_for = False

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._lock = threading.Lock()
        self._headers: tuple[Any, ...] = (grpc_call.HEADERS,)  # what comes before the first reply
        self._next: bytes | None = None
        self._last: tuple[Any, ...] = ()
        self.on_cancel = self._give_up

    def _give_up(self) -> bool:
        return True

    def send(self, message: bytes) -> None:
        """Sends a reply; from any thread."""
        with self._lock:
            if self._is_settled or self._is_closed or self._last:
                return
            if self._is_sending:
                self._next = message
            else:
                self._send(message)

    def _send(self, message: bytes) -> None:
        self._is_sending = True
        headers, self._headers = self._headers, ()
        self._start((*headers, cygrpc.SendMessageOperation(message, 0)), self._on_sent)

    def finish(self, error: request_errors.RequestError | None = None) -> None:
        """Ends it, after the reply that is on its way; from any thread."""
        code, details = (0, b"") if error is None else (error.code.value[0], grpc_call.details_of(error.message))
        with self._lock:
            self._last = self._last or (grpc_call.status(code, details),)
            if not self._is_sending:
                self._settle_last()
        self._end_if_over()

    def fail(self, error: request_errors.RequestError) -> None:
        """Ends it with an error; from any thread."""
        self.finish(error)

    def _settle_last(self) -> None:
        if not self._is_settled:
            self._settle((*self._headers, *self._last))

    def _on_sent(self, event: Any) -> None:
        with self._lock:
            self._is_sending = False
            message, self._next = self._next, None
            if message is not None and not self._is_settled:
                self._send(message)
            elif self._last:
                self._settle_last()
            else:
                self._on_quiet()
        self._end_if_over()

    def _on_closed(self, event: Any) -> None:
        with self._lock:
            super()._on_closed(event)

    def _on_quiet(self) -> None:
        """Every reply is sent."""


class Chat(Stream):
    """A call in which each request has one reply, until the client has no more."""

    def _on_quiet(self) -> None:
        if not self._is_closed:
            self._read()

    def _on_end(self) -> None:
        self.finish()

"""HTTP's side that faces the network: what a client may do to a connection is bounded, which uvicorn leaves open.

A client may send nothing, or byte by byte, or headers without end; it may send many requests and read no answer. Each
would hold memory for ever. uvicorn's protocol is extended for that, not replaced; the lock keeps its version.
"""

import asyncio
import re
from typing import Any

from uvicorn.protocols.http import httptools_impl

from longtail.serving.model_server import metrics
from longtail.serving.model_server import rest_bodies

_PIPELINED = 64  # requests on one connection that wait for the answer to the one before
_LAST_CALL_S = 0.2  # a stopping server takes what is on its way to it for so long
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


def _without_upgrade(data: bytes) -> bytes:
    """Makes the header another, where a head has it: the parser would end there and drop the body.

    Java's client offers HTTP/2 so with every request, and takes an answer of HTTP/1.1 for a no.
    """
    end = data.find(b"\r\n\r\n")
    found = _UPGRADE.search(data, 0, end if end >= 0 else len(data))
    return data if found is None else b"%b\r\nx-offer:%b" % (data[: found.start()], data[found.end() :])


class Protocol(httptools_impl.HttpToolsProtocol):
    """One connection.

    Args:
      limits: what its client may do.
      kwargs: uvicorn's own.
    """

    def __init__(self, limits: rest_bodies.Limits, **kwargs: Any):
        super().__init__(**kwargs)
        self._limits = limits
        self._in_head = True
        self._in_message = True  # a connection that says nothing is one that is late
        self._is_last = False  # whether the server stops after the request that may come
        self._received = 0  # bytes of the head or the body that is coming
        self._began = 0.0
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._unread = 0  # bytes the client had not taken when that was last looked at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect()
        if len(self.connections) > (self._limits.max_connections or 2 * self._limits.max_in_flight):
            metrics.refused("too_many")
            self._refuse(b"503 Service Unavailable", b"Too many connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _refuse(self, status: bytes, why: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(why)) + why)
        self.transport.close()

    # -- what comes in

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.transport.is_closing():
            return
        self._received += len(data)
        super().data_received(_without_upgrade(data) if self._in_head or not self._in_message else data)
        if self._in_head and self._received > self._limits.max_head_bytes:
            metrics.refused("too_large")
            self._refuse(b"431 Request Header Fields Too Large", b"The request's headers are too large")
        elif self._in_message and self._reading is None:
            self._expect()
        elif not self._in_message and self.timeout_keep_alive_task is None and self._is_idle():
            # uvicorn begins this time with an answer only, and ends it with any byte.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self._in_head = self._in_message = True
        self._received = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._in_head = False
        self._received = 0
        if len(self.pipeline) >= _PIPELINED:
            raise ValueError("too many requests at once on one connection")  # which the parser makes a 400
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        super().on_body(body)
        if self.cycle.response_complete and self._received > self._limits.max_body_bytes:
            self.transport.abort()  # it was refused, and goes on for ever

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._in_message = False
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        super().on_message_complete()

    def _expect(self) -> None:
        self._began = self.loop.time()
        self._reading = self.loop.call_later(self._limits.timeout_s, self._overdue)

    def _overdue(self) -> None:
        allowed_s = self._limits.timeout_s + self._received / self._limits.slowest
        left_s = self._began + allowed_s - self.loop.time()
        if self.flow.read_paused:
            left_s = self._limits.timeout_s  # it is the server that does not read
        if left_s > 0:
            self._reading = self.loop.call_later(left_s, self._overdue)
            return
        metrics.refused("too_slow")
        self.transport.abort()

    # -- what goes out

    def pause_writing(self) -> None:
        """Called by the transport, where much waits to be taken."""
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        """Called by the transport, where little waits any more."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _watch_writing(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._writing = self.loop.call_later(self._limits.timeout_s, self._stalled)

    def _stalled(self) -> None:
        taken = self._unread - self.transport.get_write_buffer_size()
        if taken >= self._limits.slowest * self._limits.timeout_s:
            self._watch_writing()
            return
        metrics.refused("too_slow")
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Called by a timer, where no further request came."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # which would wait for a client that takes nothing
        else:
            super().timeout_keep_alive_handler()

    # -- the end

    def shutdown(self) -> None:
        """Called where the server stops. A client may have sent a request already that is not read yet."""
        if self._is_idle():
            self._is_last = True
            self.loop.call_later(_LAST_CALL_S, self._close_idle)
        else:
            super().shutdown()

    def _close_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

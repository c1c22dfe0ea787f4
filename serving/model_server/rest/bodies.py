"""Reads a request's body within bounds: its size, also unpacked, its time, and what all bodies together may hold."""

import asyncio
import dataclasses
import zlib
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import grpc

from longtail.serving.model_server import metrics
from longtail.serving.model_server.runtime import request_errors

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What REST clients may ask of the server's memory and time."""

    timeout_s: float = 30.0  # longest time for an answer, and for the next piece of a body to come
    max_body_bytes: int = 64 << 20  # of one request, also unpacked; of all requests under way, eight times that
    max_in_flight: int = 1024  # requests under way; more are refused
    max_connections: int = 0  # more are refused; 0 for twice the one above
    keep_alive_s: int = 75  # how long a connection without a request is kept


def gone() -> request_errors.RequestError:
    """The client hung up; nobody waits for an answer."""
    return request_errors.RequestError(grpc.StatusCode.CANCELLED, "The client hung up")


class Bodies:
    """The bodies of all requests under way."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.held = 0  # bytes


class Body:
    """One request's body. Call `close` when the request is over."""

    def __init__(self, bodies: Bodies, receive: Receive):
        self._bodies = bodies
        self._limits = bodies.limits
        self._receive = receive
        self._held = 0

    def _check(self, size: int) -> None:
        if size > self._limits.max_body_bytes:
            metrics.refused("too_large")
            line = f"The request's body is larger than {self._limits.max_body_bytes} bytes; send less at a time"
            raise request_errors.RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, line, 413)
        if self._bodies.held > 8 * self._limits.max_body_bytes:
            metrics.refused("too_many")
            raise request_errors.exhausted("The requests under way hold too much memory")

    def _keep(self, size: int) -> None:
        self._held += size
        self._bodies.held += size

    async def _piece(self) -> Mapping[str, Any]:
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.timeout_s)
        except asyncio.TimeoutError:
            metrics.refused("too_slow")
            line = "The request's body did not come in time"
            raise request_errors.RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, line, 408) from None
        if message["type"] == "http.disconnect":
            raise gone()
        return message

    async def read(self, headers: Mapping[bytes, bytes]) -> bytes:
        """All of it, unpacked where it is packed.

        Raises:
          RequestError: it is too large (413), too slow (408), or no gzip though it says so (400); all bodies
            together are too large (429); or the client hung up.
        """
        if b"upgrade" in headers:  # the HTTP parser takes what follows for another protocol
            raise request_errors.invalid(
                "A request that offers to upgrade is lost; ask in HTTP/1.1 alone (Java: HttpClient.Version.HTTP_1_1)"
            )
        length = headers.get(b"content-length", b"")
        self._check(int(length) if length.isdigit() else 0)
        pieces: list[bytes] = []
        is_more = True
        while is_more:
            message = await self._piece()
            pieces.append(message.get("body", b""))
            self._keep(len(pieces[-1]))
            self._check(self._held)
            is_more = message.get("more_body", False)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if b"gzip" not in headers.get(b"content-encoding", b""):
            return body
        found = await asyncio.to_thread(self._unpack, body)
        self._keep(len(found))
        self._check(len(found))
        return found

    def _unpack(self, body: bytes) -> bytes:
        """No further than a byte beyond the bound."""
        unpacker = zlib.decompressobj(wbits=31)
        try:
            found = unpacker.decompress(body, self._limits.max_body_bytes + 1)
        except zlib.error as error:
            raise request_errors.invalid(f"Failed to uncompress the gzipped body: {error}") from error
        if not unpacker.eof and len(found) <= self._limits.max_body_bytes:
            raise request_errors.invalid("Failed to uncompress the gzipped body: it is cut off")
        return found

    async def hung_up(self) -> None:
        """Returns when the client hangs up, after the body."""
        while (await self._receive())["type"] != "http.disconnect":
            continue

    def close(self) -> None:
        """Ends the counting."""
        self._bodies.held -= self._held
        self._held = 0

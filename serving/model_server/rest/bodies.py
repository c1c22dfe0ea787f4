"""Reads a request's body within bounds: its own size, also unpacked, and what all bodies together may hold."""

import dataclasses
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import grpc

from longtail.serving.model_server import metrics
from longtail.serving.model_server import packed
from longtail.serving.model_server import request_errors

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What REST clients may ask of the server's memory and time.

    Attributes:
      timeout_s: longest time for an answer, from when the request has come; and for a request to come, or an answer to
        be taken, where no more than `slowest` goes over the wire.
      max_body_bytes: of one request, also of what a packed one holds.
      max_bodies_bytes: of all requests under way; 0 for eight times the one above.
      max_in_flight: requests under way; more are refused.
      max_connections: more are refused; 0 for twice the one above.
      max_head_bytes: of a request's first line and headers.
      slowest: bytes a second; who is faster may take longer than `timeout_s`.
      keep_alive_s: how long a connection without a request is kept.
    """

    timeout_s: float = 30.0
    max_body_bytes: int = 64 << 20
    max_bodies_bytes: int = 0
    max_in_flight: int = 1024
    max_connections: int = 0
    max_head_bytes: int = 64 << 10
    slowest: int = 64 << 10
    keep_alive_s: float = 75.0


class HttpError(request_errors.RequestError):
    """A request refused for a reason that HTTP has a status of its own for."""

    def __init__(self, status: int, code: grpc.StatusCode, message: str):
        super().__init__(code, message)
        self._status = status

    @property
    def http_status(self) -> int:
        """The status."""
        return self._status


class GoneError(Exception):
    """The client hung up; nobody waits for an answer."""


class Bodies:
    """The bodies of all requests under way.

    Args:
      limits: how large they may be.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.most = limits.max_bodies_bytes or 8 * limits.max_body_bytes
        self.held = 0  # bytes


class Body:
    """One request's body. Call `close` when the request is over.

    Args:
      bodies: all of them.
    """

    def __init__(self, bodies: Bodies):
        self._bodies = bodies
        self._held = 0

    def _keep(self, part: bytes, size: int) -> None:
        """Counts `part`, with which the body has `size` bytes."""
        self._held += len(part)
        self._bodies.held += len(part)
        self._check_size(size)
        if self._bodies.held > self._bodies.most:
            metrics.refused("too_many")
            raise request_errors.RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "The requests under way hold too much memory; try again later"
            )

    def _check_size(self, size: int) -> None:
        if size > self._bodies.limits.max_body_bytes:
            raise self._too_large()

    def _too_large(self) -> HttpError:
        metrics.refused("too_large")
        return HttpError(
            413,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The request's body is larger than {self._bodies.limits.max_body_bytes} bytes; send less at a time",
        )

    async def read(self, receive: Receive, content_length: bytes) -> bytes:
        """All of it, as it was sent.

        Raises:
          HttpError: status 413, it is too large.
          RequestError: RESOURCE_EXHAUSTED, all bodies together are.
          GoneError: the client hung up.
        """
        if content_length.isdigit():
            self._check_size(int(content_length))
        parts: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise GoneError
            parts.append(message.get("body", b""))
            self._keep(parts[-1], self._held + len(parts[-1]))
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def unpack(self, body: bytes) -> bytes:
        """What gzip made `body` of.

        Raises:
          HttpError, RequestError: as `read`; or INVALID_ARGUMENT, it is no gzip.
        """
        try:
            found = packed.unpack_gzip(body, self._bodies.limits.max_body_bytes)
        except packed.TooLargeError:
            raise self._too_large() from None
        except packed.DamagedError as error:
            raise request_errors.invalid(f"Failed to uncompress the gzipped body: {error}") from error
        self._keep(found, len(found))
        return found

    def close(self) -> None:
        """Ends the counting."""
        self._bodies.held -= self._held
        self._held = 0

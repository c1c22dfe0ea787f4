"""A call of gRPC's, from its request to the end the client knows of; see `grpc_core`."""

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any

import grpc
from google.protobuf import message as message_lib
from grpc._cython import cygrpc

from longtail.serving.model_server import metrics
from longtail.serving.model_server import packed
from longtail.serving.model_server import request_errors

if TYPE_CHECKING:
    from longtail.serving.model_server import grpc_core

log = logging.getLogger("longtail")

HEADERS = cygrpc.SendInitialMetadataOperation((), 0)
_LIGHT_BYTES = 1 << 20  # to which a packed request is unpacked that asks the model nothing
_MAX_DETAILS = 2000  # bytes; a client takes 8 KiB of metadata, and a byte may need three


@dataclasses.dataclass(frozen=True)
class Method:
    """A method that clients can call.

    Attributes:
      handler: called in the polling thread with the call and its request. It replies, at once or later from another
        thread, or raises.
      kind: what is made of a call; a `Call` where None.
      is_light: whether it is answered beside the limit of calls, as somebody looks after a server that is full.
      is_open: whether it is answered without a token, and while the server stops.
    """

    handler: Callable[[Any, bytes], None]
    kind: "type[Call] | None" = None
    is_light: bool = True
    is_open: bool = False

    @functools.cached_property
    def share(self) -> tuple[bool, ...]:
        """Methods of the same share have one limit of calls together, whatever others have under way.

        Who watches the health needs no token, and stays: it must not take the place of who asks for anything else.
        """
        return self.is_light, self.is_open, self.kind is not None


def status(code: int, details: bytes) -> Any:
    """What ends a call."""
    return cygrpc.SendStatusFromServerOperation((), code, details, 0)


def details_of(message: str) -> bytes:
    """A message as a status may have it: one line, and not longer than a client takes."""
    details = " ".join(message.splitlines()).encode(errors="replace")
    return details if len(details) <= _MAX_DETAILS else details[:_MAX_DETAILS].decode(errors="ignore").encode()


class Call:
    """A call of one request and one reply, while it lasts.

    It is over when the client knows its end, what was sent is gone, and its handler has replied or given it up.

    Attributes:
      deadline: when the client gives up, by `time.monotonic`; None for never.
      on_cancel: called in the polling thread where the client gives up or hangs up before the reply; returns whether
        the handler has given up too, and will not reply.
    """

    is_waited_for = True  # when the server stops

    def __init__(self, server: "grpc_core.Server", core: Any, method: Method, deadline: float | None):
        self.deadline = deadline
        self.on_cancel: Callable[[], bool] | None = None
        self._server = server
        self._core = core
        self._method = method
        self.share = method.share
        self._is_closed = False  # the client knows its end, or hung up
        self._is_settled = False  # the handler has nothing to do with it any more
        self._is_reading = False
        self._is_sending = False
        self._since = time.monotonic()

    def begin(self) -> None:
        """Waits for the request."""
        self._watch()
        self._read()

    def refuse(self, error: request_errors.RequestError) -> None:
        """Fails it without waiting for the request."""
        self._watch()
        self.fail(error)

    def run_soon(self, function: Callable[[], None]) -> None:
        """Has `function` reply, in the polling thread; from any thread, while nothing else does.

        Two threads that send at once take Python's lock from each other at every message, which costs more than
        sending.
        """
        if self._server.soon.add(function):
            self._start((), self._server.soon.run)

    def reserve(self, size: int) -> None:
        """Sees to it that there is room for a reply of so many bytes; from any thread.

        Raises:
          RequestError: RESOURCE_EXHAUSTED, there is none.
        """
        if not self._server.may_send(self, size):
            metrics.refused("too_many")
            raise request_errors.RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many answers wait for their clients; try again later"
            )

    def reply(self, message: bytes) -> None:
        """Ends it well; from any thread."""
        try:
            self.reserve(len(message))
        except request_errors.RequestError as error:
            self.fail(error)
        else:
            self._settle((HEADERS, cygrpc.SendMessageOperation(message, 0), status(0, b"")))

    def fail(self, error: request_errors.RequestError) -> None:
        """Ends it with an error; from any thread."""
        self._settle((HEADERS, status(error.code.value[0], details_of(error.message))))

    def _settle(self, operations: tuple[Any, ...]) -> None:
        # In this order, as the client may hang up at any moment: one of the two threads sees that it is over.
        self._since = time.monotonic()
        self._is_sending = True
        self._is_settled = True
        if self._is_closed:
            self._is_sending = False
            self._end_if_over()
        else:
            self._start(operations, self._on_sent)

    def _start(self, operations: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        error = self._core.start_server_batch(operations, then)
        if error:
            raise RuntimeError(f"grpcio's core refuses operations: error {error}")

    def _watch(self) -> None:
        self._start((cygrpc.ReceiveCloseOnServerOperation(0),), self._on_closed)

    def _read(self) -> None:
        self._is_reading = True
        self._since = time.monotonic()
        self._start((cygrpc.ReceiveMessageOperation(0),), self._on_message)

    def _on_message(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        self._is_reading = False
        if message is None:
            self._on_end()
        elif packed.may_be_packed(message):
            self._server.aside(functools.partial(self._unpack, message))
        else:
            self._handle(message)

    def _unpack(self, message: bytes) -> None:
        """In a thread of its own, as a large message takes long."""
        most = self._server.limits.request_bytes
        if self._method.is_light:
            most = _LIGHT_BYTES if most < 0 else min(most, _LIGHT_BYTES)
        then: Callable[[], None]
        try:
            if self._is_closed or (self.deadline or math.inf) < time.monotonic():
                raise request_errors.RequestError(grpc.StatusCode.CANCELLED, "It was given up before it was unpacked")
            then = functools.partial(self._handle_unless_closed, packed.unpack_message(message, most))
        except request_errors.RequestError as error:
            then = functools.partial(self.fail, error)
        except packed.TooLargeError:
            metrics.refused("too_large")
            told = f"Received message larger than max (what it holds unpacked vs. {most})"
            then = functools.partial(self.fail, request_errors.RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, told))
        except Exception as error:  # whatever it was, the client must not wait for it
            then = functools.partial(self._fail_of_itself, error)
        self.run_soon(then)

    def _handle_unless_closed(self, message: bytes) -> None:
        if self._is_closed:  # the client gave up meanwhile, and nobody would tell the handler
            self.fail(request_errors.RequestError(grpc.StatusCode.CANCELLED, "It was given up before it was handled"))
        else:
            self._handle(message)

    def _handle(self, message: bytes) -> None:
        try:
            self._method.handler(self, message)
        except request_errors.RequestError as error:
            self.fail(error)
        except message_lib.DecodeError:
            self.fail(request_errors.RequestError(grpc.StatusCode.INTERNAL, "The request is not of the method's type"))
        except Exception as error:  # whatever it was, this call alone fails
            self._fail_of_itself(error)

    def _fail_of_itself(self, error: Exception) -> None:
        log.error("a gRPC call failed: %s", request_errors.first_line(error), exc_info=error)
        self.fail(request_errors.internal())

    def _on_end(self) -> None:
        self.fail(request_errors.RequestError(grpc.StatusCode.INTERNAL, "The request did not arrive"))

    def _on_sent(self, event: Any) -> None:
        self._is_sending = False
        self._end_if_over()

    def _on_closed(self, event: Any) -> None:
        self._is_closed = True
        if not self._is_settled and self.on_cancel is not None and self.on_cancel():
            self._is_settled = True
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._is_closed and self._is_settled and not self._is_sending and not self._is_reading:
            self.on_cancel = None
            self._server.forget(self)

    def is_stalled(self, before: float) -> bool:
        """Whether the client has neither sent its request nor taken the reply since `before`, by `time.monotonic`."""
        return (self._is_reading or self._is_sending) and self._since < before

    def cancel(self) -> None:
        """Ends it at once, whatever the client does."""
        metrics.refused("too_slow")
        self._core.cancel(cygrpc.StatusCode.cancelled, "the client was too slow")

"""A gRPC server on grpcio's core, for replies that come from another thread than the one that read the request.

grpc.server and grpc.aio spend 200 us of the processor on a call that does nothing; a small model spends 300 on an
image. This loop, on what grpc.server itself is written on, spends 60. It leans on `grpc._cython.cygrpc`, which is not
public: the lock pins grpcio, and tests/serving/model_server/test_grpc_core.py pins what is used of it.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import grpc
from grpc._cython import cygrpc

from longtail.serving.model_server import auth
from longtail.serving.model_server import grpc_call
from longtail.serving.model_server import grpc_waiting
from longtail.serving.model_server import metrics
from longtail.serving.model_server import request_errors

log = logging.getLogger("longtail")

_ARMED = 64  # calls the core may take up before this loop sees the first
_SWEEP_S = 1.0  # between two looks for clients that neither send nor read
_QUIET_S = 0.2  # without a new call, after which a server that stops hangs up,
_REFUSING_S = 1.0  # or when that does not come
_CANCELLED_S = 5.0  # for what was cancelled at the end of the grace to end
_FOREVER_S = 10.0 * 365 * 86400
_ROOM_S = 3.0  # for which a thread that has an answer waits for room
_LARGE = 64 << 10  # bytes; smaller replies are not counted, as there are only so many calls
_REQUEST = object()
_SHUTDOWN = object()


@dataclasses.dataclass(frozen=True)
class Limits:
    """What clients may ask of the server's memory.

    Attributes:
      request_bytes: of one request, also of what a packed one holds; -1 for any number.
      calls: of each share at once; beyond it they are refused. See `grpc_call.Method.share`.
      reply_bytes: of replies that clients have not taken yet. Beyond it those are cancelled whose clients have had a
        second for it, and new ones wait for room, or fail.
      stall_s: how long a client may take to send its request, or to take the reply, seconds.
    """

    request_bytes: int = 64 << 20
    calls: int = 1024
    reply_bytes: int = 256 << 20
    stall_s: float = 30.0


def _after(deadline: float) -> float | None:
    """A deadline of the wall clock's in the monotonic one's time."""
    left = deadline - time.time()
    return None if left > _FOREVER_S else time.monotonic() + left


class Server:
    """Takes calls, in a thread of its own.

    Args:
      methods: by "/package.Service/Method".
      options: the core's channel arguments.
      limits: what clients may ask.
      tokens: says who may call what is not open.
    """

    def __init__(
        self,
        methods: Mapping[str, grpc_call.Method],
        options: Sequence[tuple[str, int | str]] = (),
        limits: Limits = Limits(),
        tokens: auth.Tokens | auth.Anyone = auth.ANYONE,
    ):
        self._methods = {name.encode(): method for name, method in methods.items()}
        self._tokens = tokens
        self._queue = cygrpc.CompletionQueue()
        arguments = {"grpc.max_receive_message_length": limits.request_bytes, **dict(options)}
        self.limits = dataclasses.replace(limits, request_bytes=int(arguments["grpc.max_receive_message_length"]))
        # The core unpacks a message whole before it looks at its size; it is unpacked here, see `packed`.
        arguments["grpc.per_message_decompression"] = 0
        self._server = cygrpc.Server(tuple((name.encode(), value) for name, value in arguments.items()), False)
        self._server.register_completion_queue(self._queue)
        self._calls: dict[tuple[bool, ...], set[grpc_call.Call]] = {
            method.share: set() for method in (*methods.values(), _UNKNOWN)
        }
        self._refused: set[grpc_call.Call] = set()
        self._refused_at = 0.0
        self.soon = grpc_waiting.Soon()
        self._replies = grpc_waiting.Replies(limits.reply_bytes)
        self._is_started = self._is_stopping = self._is_shut_down = False
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._sweep_at = 0.0
        self._pool = futures.ThreadPoolExecutor(1, thread_name_prefix="grpc-unpack")
        self._thread = threading.Thread(target=self._poll, name="grpc", daemon=True)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Binds HOST:PORT, a free port where that is 0; returns the port.

        Raises:
          RuntimeError: it cannot be bound.
        """
        secret = None if credentials is None else credentials._credentials
        port = self._server.add_http2_port(address.encode(), secret)
        if not port:
            raise RuntimeError(f"cannot listen on {address}")
        return port

    def start(self) -> None:
        """Takes calls from now on."""
        self._server.start()
        self._is_started = True
        for _ in range(_ARMED):
            self._arm()
        self._thread.start()

    def in_flight(self) -> int:
        """Calls that are not over."""
        return sum(map(len, self._calls.values()))

    def _under_way(self) -> list[grpc_call.Call]:
        return [call for calls in self._calls.values() for call in list(calls)]

    def may_send(self, call: grpc_call.Call, size: int) -> bool:
        """Whether there is room for a reply of so many bytes until the client takes it.

        Waits for it a while, but in the polling thread, which makes the room.
        """
        wait_s = 0.0 if threading.current_thread() is self._thread else _ROOM_S
        return size < _LARGE or self._replies.add(call, size, wait_s)

    def forget(self, call: grpc_call.Call) -> None:
        """Lets go of a call that is over."""
        self._replies.remove(call)
        self._calls[call.share].discard(call)
        self._refused.discard(call)
        if self._is_stopping:
            with self._changed:
                self._changed.notify_all()

    def aside(self, function: Callable[[], None]) -> None:
        """Has something done that takes long, after what else is to be done so."""
        self._pool.submit(function)

    def _arm(self) -> None:
        self._server.request_call(self._queue, self._queue, _REQUEST)

    def _poll(self) -> None:
        while not self._is_shut_down or self.in_flight() or self._refused:
            now = time.time()
            if now >= self._sweep_at:
                self._sweep_at = now + _SWEEP_S
                self._sweep()
            event = self._queue.poll(now + _SWEEP_S)
            try:
                self._handle(event)
            except Exception as error:  # one call must not end the others
                log.exception("a gRPC call was lost: %s", request_errors.first_line(error))
            del event  # the call in it would live on until the next one
        self._server.destroy()
        self._pool.shutdown(wait=False)
        self._ended.set()

    def _handle(self, event: Any) -> None:
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            return
        if event.tag is _REQUEST:
            self._accept(event)
        elif event.tag is _SHUTDOWN:
            self._is_shut_down = True
        else:
            event.tag(event)

    def _sweep(self) -> None:
        before = time.monotonic() - self.limits.stall_s
        for call in [*self._under_way(), *self._refused]:
            if call.is_stalled(before):
                call.cancel()
        self.soon.run(None)  # nobody waits for ever, whatever became of a wake-up

    def _accept(self, event: Any) -> None:
        if not event.success:  # the server is shut down
            return
        self._arm()
        details = event.call_details
        method = self._methods.get(details.method, _UNKNOWN)
        call = (method.kind or grpc_call.Call)(self, event.call, method, _after(details.deadline))
        try:
            self._admit(method, event.invocation_metadata)
        except request_errors.RequestError as error:
            self._refused.add(call)
            self._refused_at = time.monotonic()
            call.refuse(error)
        else:
            self._calls[method.share].add(call)
            call.begin()

    def _admit(self, method: grpc_call.Method, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        if not method.is_open:
            if self._tokens is not auth.ANYONE:
                self._tokens.check(next((value for key, value in metadata if key == "authorization"), None))
            if self._is_stopping:
                raise request_errors.RequestError(grpc.StatusCode.UNAVAILABLE, "The server is stopping")
        if len(self._calls[method.share]) >= self.limits.calls:
            metrics.refused("too_many")
            raise request_errors.RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests are under way; try again later"
            )
        if method is _UNKNOWN:
            raise request_errors.RequestError(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    def stop(self, grace_s: float) -> bool:
        """Takes no more calls; returns when those under way are over, or cancelled after `grace_s` seconds.

        It hangs up only when nobody has called for a moment: the core cancels calls that meet its goodbye on the way,
        and a client could not tell that from a request that was lost.

        Returns:
          Whether all are over. Where a handler hangs, they are not, and the polling thread goes on.
        """
        if not self._is_started:  # the core aborts the process where a server that is bound was never started
            self._is_started = self._is_stopping = True
            self._server.start()
            self._server.shutdown(self._queue, _SHUTDOWN)
            self._queue.poll(time.time() + _CANCELLED_S)
            self._server.destroy()
            self._ended.set()
            return True
        if not self._is_stopping:
            self._refused_at = time.monotonic()
            self._is_stopping = True
            with self._changed:
                self._changed.wait_for(lambda: not any(call.is_waited_for for call in self._under_way()), grace_s)
                until = time.monotonic() + _REFUSING_S
                while (left := min(until, self._refused_at + _QUIET_S) - time.monotonic()) > 0:
                    self._changed.wait(left)
            self._server.shutdown(self._queue, _SHUTDOWN)
            if not self._ended.wait(_QUIET_S):
                self._server.cancel_all_calls()
        return self._ended.wait(_CANCELLED_S)


def _nothing(call: grpc_call.Call, message: bytes) -> None:
    """Handles no request: a method that is unknown is refused before."""


_UNKNOWN = grpc_call.Method(_nothing)

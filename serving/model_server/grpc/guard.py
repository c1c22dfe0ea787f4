"""Stands before every gRPC method: who may ask, how much at once, and what a failure is told as."""

import asyncio
import contextlib
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message as message_lib

from longtail.serving.model_server import metrics
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.runtime import request_errors

_HEALTH = "/grpc.health.v1.Health/"
# A stopping server refuses calls for so long before gRPC does, which cancels those that it has taken but not begun.
_LAST_CALLS_S = 0.2

_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]]


def _refusing(error: request_errors.RequestError) -> grpc.RpcMethodHandler:
    """Refuses a call of any kind, without waiting for its message."""

    async def refuse(messages: Any, context: grpc.aio.ServicerContext) -> None:
        await context.abort(error.code, error.message)

    return grpc.stream_stream_rpc_method_handler(refuse)


class Guard(grpc.aio.ServerInterceptor):
    """The interceptor. Health checks need no token, and are answered while the server stops.

    Args:
      tokens: says who may ask.
      max_requests: calls of `limited` under way; beyond it they are refused, and everything else is answered on.
      limited: the method that runs models.
    """

    def __init__(self, tokens: auth.Tokens | None, max_requests: int, limited: str):
        self._tokens = tokens
        self._max_requests = max_requests
        self._limited = limited
        self._handlers: dict[str, grpc.RpcMethodHandler] = {}  # by method, those that are guarded
        self._asked = 0  # calls of the limited method under way
        self._in_flight = 0  # calls under way but for streams, which may go on for ever
        self._stopping = False
        self._idle = asyncio.Event()

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """What answers a call, or refuses it."""
        method = handler_call_details.method
        if not method.startswith(_HEALTH):
            try:
                if self._tokens is not None:
                    self._tokens.check(dict(handler_call_details.invocation_metadata).get("authorization"))
                if self._stopping:
                    raise request_errors.stopping()
            except request_errors.RequestError as error:
                return _refusing(error)
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None or handler.request_streaming or handler.response_streaming:
                return handler
            answer = self._answer(handler, method == self._limited)
            self._handlers[method] = grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)
        return self._handlers[method]

    def _answer(self, handler: grpc.RpcMethodHandler, is_limited: bool) -> Callable[..., Awaitable[Any]]:
        async def answer(message: bytes, context: grpc.aio.ServicerContext) -> Any:
            self._in_flight += 1
            self._asked += is_limited
            try:
                with metrics.GRPC.track_inprogress():
                    if is_limited and self._asked > self._max_requests:
                        metrics.refused("too_many")
                        raise request_errors.exhausted("Too many requests are under way")
                    return await handler.unary_unary(handler.request_deserializer(message), context)
            except message_lib.DecodeError:
                failure = request_errors.invalid("The request is not of the method's type")
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # whatever it was, this call alone fails
                failure = request_errors.of(error)
            finally:
                self._in_flight -= 1
                self._asked -= is_limited
                if self._stopping and not self._in_flight:
                    self._idle.set()
            return await context.abort(failure.code, failure.message)

        return answer

    async def stop(self, grace_s: float) -> None:
        """Refuses what comes from now on, and returns when what is under way is over, but after `grace_s` seconds."""
        self._stopping = True
        await asyncio.sleep(min(_LAST_CALLS_S, grace_s))
        if self._in_flight:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle.wait(), max(0.0, grace_s - _LAST_CALLS_S))

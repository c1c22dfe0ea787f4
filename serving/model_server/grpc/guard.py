"""Stands before every gRPC method: who may ask, how much at once, and what a failure is told as."""

import asyncio
import logging
from collections.abc import Awaitable
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import message as message_lib

from longtail.serving.model_server import metrics
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.runtime import request_errors

log = logging.getLogger("longtail")

_HEALTH = "/grpc.health.v1.Health/"
_LAST_WORD_S = 0.2  # who watches the health is told that the server stops, before the call is ended

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

    def __init__(self, tokens: auth.Tokens | auth.Anyone, max_requests: int, limited: str):
        self._tokens = tokens
        self._max_requests = max_requests
        self._limited = limited
        self._asked = 0  # calls of the limited method under way
        self.in_flight = 0
        self.stopping = asyncio.Event()

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """What answers a call, or refuses it."""
        method = handler_call_details.method
        if not method.startswith(_HEALTH):
            try:
                self._tokens.check(dict(handler_call_details.invocation_metadata).get("authorization"))
                if self.stopping.is_set():
                    raise request_errors.stopping()
            except request_errors.RequestError as error:
                return _refusing(error)
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._watch(handler), handler.request_deserializer, handler.response_serializer
            )
        guarded = self._answer(handler, method == self._limited)
        return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)

    def _answer(self, handler: grpc.RpcMethodHandler, is_limited: bool) -> Callable[..., Awaitable[Any]]:
        async def answer(message: bytes, context: grpc.aio.ServicerContext) -> Any:
            self.in_flight += 1
            self._asked += is_limited
            try:
                if is_limited and self._asked > self._max_requests:
                    metrics.refused("too_many")
                    raise request_errors.exhausted("Too many requests are under way")
                return await handler.unary_unary(handler.request_deserializer(message), context)
            except request_errors.RequestError as error:
                failure = error
            except message_lib.DecodeError:
                failure = request_errors.invalid("The request is not of the method's type")
            except (grpc.aio.AbortError, asyncio.CancelledError):
                raise
            except Exception as error:  # whatever it was, this call alone fails
                log.error("a gRPC call failed: %s", request_errors.first_line(error), exc_info=error)
                failure = request_errors.internal()
            finally:
                self.in_flight -= 1
                self._asked -= is_limited
            return await context.abort(failure.code, failure.message)

        return answer

    def _watch(self, handler: grpc.RpcMethodHandler) -> Callable[..., Awaitable[None]]:
        """A watch of the health goes on for ever, and would keep a server from stopping."""

        async def watch(request: Any, context: grpc.aio.ServicerContext) -> None:
            work = asyncio.ensure_future(handler.unary_stream(request, context))
            stop = asyncio.ensure_future(self.stopping.wait())
            try:
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    await asyncio.wait({work}, timeout=_LAST_WORD_S)
                    error = request_errors.stopping()
                    await context.abort(error.code, error.message)
                await work
            finally:
                work.cancel()
                stop.cancel()

        return watch

"""The REST side as an ASGI application: who may ask, how much at once, and what each path is answered with."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import grpc

from longtail.serving.model_server import auth
from longtail.serving.model_server import batching
from longtail.serving.model_server import json_answers
from longtail.serving.model_server import metrics
from longtail.serving.model_server import models as models_lib
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server import rest_api
from longtail.serving.model_server import rest_bodies
from longtail.serving.model_server import rest_paths
from longtail.serving.model_server import retrieval as retrieval_lib

log = logging.getLogger("longtail")

LIVE = "/healthz"
READY = "/readyz"
IDENTIFY = "/v1/gallery:identify"

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_HINTS = {401: ((b"www-authenticate", b"Bearer"),), 429: ((b"retry-after", b"1"),), 503: ((b"retry-after", b"1"),)}
_LARGE = 64 << 10  # bytes of an answer that are not kept without counting until the client takes them

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class _Reply:
    body: bytes = b""
    status: int = 200
    kind: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def _failed(error: request_errors.RequestError) -> _Reply:
    message = " ".join(error.message.splitlines())
    return _Reply(json_answers.dump({"error": message}), error.http_status, headers=_HINTS.get(error.http_status, ()))


async def _send(send: Send, reply: _Reply) -> None:
    headers = [
        (b"content-type", reply.kind),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if len(reply.body) <= _LARGE:
        await send({"type": "http.response.body", "body": reply.body})
        return
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    await send({"type": "http.response.body"})  # returns when the client has taken most of it


class Application:
    """The ASGI application.

    Args:
      models: the models.
      scheduler: runs them, for gRPC too.
      limits: what clients may ask of the server's memory and time.
      tokens: says who may ask for anything but the health.
      retrieval: answers /v1/gallery:identify, where there is a gallery.
      request_log: keeps a sample of what was asked; None keeps nothing.
      metrics_path: where the metrics are; nowhere where empty.
    """

    def __init__(
        self,
        models: models_lib.Models,
        scheduler: batching.Scheduler,
        limits: rest_bodies.Limits,
        tokens: auth.Tokens | auth.Anyone = auth.ANYONE,
        retrieval: retrieval_lib.Retrieval | None = None,
        request_log: request_log_lib.RequestLog | None = None,
        metrics_path: str = metrics.PATH,
    ):
        self._models = models
        self._retrieval = retrieval
        self._tokens = tokens
        self._limits = limits
        self._metrics_path = metrics_path
        self._api = rest_api.Api(models, scheduler, limits.timeout_s, request_log)
        self._bodies = rest_bodies.Bodies(limits)
        self._in_flight = 0
        self._ungauge = (
            metrics.gauge("longtail_serving_rest_in_flight", "REST requests under way.", lambda: self._in_flight),
            metrics.gauge("longtail_serving_queued_requests", "Requests that wait for a batch.", scheduler.waiting),
        )

    def close(self) -> None:
        """Ends its threads."""
        for remove in self._ungauge:
            remove()
        self._api.close()

    async def __call__(self, scope: Mapping[str, Any], receive: rest_bodies.Receive, send: Send) -> None:
        """Answers a request."""
        path = scope["raw_path"].decode("latin-1")
        if path in (LIVE, READY):
            await _send(send, self._health(path))
            return
        body = rest_bodies.Body(self._bodies)
        self._in_flight += 1
        try:
            await _send(send, await self._reply(scope, path, body, receive))
        except rest_bodies.GoneError:
            return
        finally:
            self._in_flight -= 1
            body.close()

    def _health(self, path: str) -> _Reply:
        if path == LIVE or self._models.ready():
            return _Reply(b"ok\n", kind=_TEXT)
        return _Reply(b"not ready\n", 503, _TEXT)

    async def _reply(
        self, scope: Mapping[str, Any], path: str, body: rest_bodies.Body, receive: rest_bodies.Receive
    ) -> _Reply:
        try:
            headers = dict(scope["headers"])
            self._tokens.check(headers.get(b"authorization"))
            # What is only looked at has as many again: somebody looks after a server that is full.
            if self._in_flight > self._limits.max_in_flight * (1 if scope["method"] == "POST" else 2):
                metrics.refused("too_many")
                raise request_errors.RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests are under way; try again later"
                )
            return await self._route(scope, path, headers, body, receive)
        except request_errors.RequestError as error:
            failure = error
        except asyncio.CancelledError:  # the grace is over
            failure = request_errors.RequestError(grpc.StatusCode.UNAVAILABLE, "The server is stopping")
        except Exception as error:  # whatever it was, this request alone fails
            if isinstance(error, rest_bodies.GoneError):
                raise
            log.exception("%s %s failed", scope["method"], path)
            failure = request_errors.internal()
        return _failed(failure)

    async def _route(
        self,
        scope: Mapping[str, Any],
        path: str,
        headers: Mapping[bytes, bytes],
        body: rest_bodies.Body,
        receive: rest_bodies.Receive,
    ) -> _Reply:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if self._metrics_path and path == self._metrics_path and method == "GET":
            return _Reply(metrics.page(), kind=metrics.CONTENT_TYPE.encode())
        if not rest_paths.is_api(path):
            return _Reply(json_answers.dump({"error": "Not Found"}), 404)
        if method == "OPTIONS":
            return _preflight(headers)

        async def read() -> bytes:
            packed = await body.read(receive, headers.get(b"content-length", b""))
            if b"gzip" not in headers.get(b"content-encoding", b""):
                return packed
            return await self._api.aside(body.unpack, packed)

        if path == IDENTIFY and method == "POST":
            return _Reply(await self._identify(await read()))
        query = scope["query_string"].decode("latin-1")
        target = rest_paths.parse(method, f"{path}?{query}" if query else path)
        return _Reply(await self._api.answer(target, read, receive))

    async def _identify(self, body: bytes) -> bytes:
        retrieval = self._retrieval
        if retrieval is None:
            raise request_errors.RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, "No gallery is served; start the server with --gallery"
            )

        document = await self._api.parse(body)
        return json_answers.dump(await self._api.aside(retrieval.identify, document))


def _preflight(headers: Mapping[bytes, bytes]) -> _Reply:
    """No page of another site may ask: there are no headers of CORS, as in TF Serving unless told otherwise."""
    if b"http://" in headers.get(b"origin", b"") or b"https://" in headers.get(b"origin", b""):
        return _Reply()
    raise request_errors.RequestError(
        grpc.StatusCode.FAILED_PRECONDITION, "Origin header is missing in CORS preflight"
    )

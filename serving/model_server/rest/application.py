"""The REST side as an ASGI application: who may ask, how much at once, and what each path is answered with."""

import asyncio
import dataclasses
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from longtail.serving.model_server import metrics
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.rest import api as api_lib
from longtail.serving.model_server.rest import bodies
from longtail.serving.model_server.rest import json_answers
from longtail.serving.model_server.rest import paths
from longtail.serving.model_server.runtime import request_errors

LIVE = "/healthz"
READY = "/readyz"
IDENTIFY = "/v1/gallery:identify"

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_HINTS = {401: ((b"www-authenticate", b"Bearer"),), 429: ((b"retry-after", b"1"),), 503: ((b"retry-after", b"1"),)}
# What they still send is not read.
_HINTS |= dict.fromkeys((408, 413), ((b"connection", b"close"),))

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclasses.dataclass(frozen=True)
class _Reply:
    body: bytes = b""
    status: int = 200
    kind: bytes = _JSON

    async def send(self, send: Send) -> None:
        headers = [(b"content-type", self.kind), (b"content-length", b"%d" % len(self.body))]
        headers += _HINTS.get(self.status, ())
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class Application:
    """The ASGI application. Metrics are nowhere where `metrics_path` is empty."""

    def __init__(
        self,
        api: api_lib.Api,
        limits: bodies.Limits,
        tokens: auth.Tokens | None = None,
        metrics_path: str = metrics.PATH,
    ):
        self._api = api
        self._tokens = tokens
        self._limits = limits
        self._metrics_path = metrics_path
        self._bodies = bodies.Bodies(limits)
        self._in_flight = 0

    async def __call__(self, scope: Mapping[str, Any], receive: bodies.Receive, send: Send) -> None:
        """Answers a request."""
        path = scope["raw_path"].decode("latin-1")
        if path in (LIVE, READY):
            is_well = path == LIVE or self._api.is_ready()
            await (_Reply(b"ok\n", 200, _TEXT) if is_well else _Reply(b"not ready\n", 503, _TEXT)).send(send)
            return
        body = bodies.Body(self._bodies, receive)
        self._in_flight += 1
        try:
            with metrics.REST.track_inprogress():
                reply = await self._reply(scope, path, body)
                await reply.send(send)
        finally:
            self._in_flight -= 1
            body.close()

    async def _reply(self, scope: Mapping[str, Any], path: str, body: bodies.Body) -> _Reply:
        try:
            headers = dict(scope["headers"])
            if self._tokens is not None:
                self._tokens.check(headers.get(b"authorization"))
            # What is only looked at has as many again: somebody looks after a server that is full.
            if self._in_flight > self._limits.max_in_flight * (1 if scope["method"] == "POST" else 2):
                metrics.refused("too_many")
                raise request_errors.exhausted("Too many requests are under way")
            return await self._route(scope, path, headers, body)
        except asyncio.CancelledError:  # the grace is over
            failure = request_errors.stopping()
        except Exception as error:  # whatever it was, this request alone fails
            failure = request_errors.of(error)
        return _Reply(json_answers.dump({"error": failure.message}), failure.http_status)

    async def _route(
        self, scope: Mapping[str, Any], path: str, headers: Mapping[bytes, bytes], body: bodies.Body
    ) -> _Reply:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if self._metrics_path and path == self._metrics_path and method == "GET":
            return _Reply(metrics.page(), kind=metrics.CONTENT_TYPE.encode())
        if not path.startswith(paths.API):
            return _Reply(json_answers.dump({"error": "Not Found"}), 404)
        if method == "OPTIONS":  # no page of another site may ask: there are no headers of CORS, as in TF Serving
            if headers.get(b"origin", b"").startswith((b"http://", b"https://")):
                return _Reply()
            raise request_errors.invalid("Origin header is missing in CORS preflight")
        if path == IDENTIFY and method == "POST":
            return _Reply(await self._api.identify(await body.read(headers)))
        query = scope["query_string"].decode("latin-1")
        target = paths.parse(method, f"{path}?{query}" if query else path)
        return _Reply(await self._api.answer(target, headers, body))

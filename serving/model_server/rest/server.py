"""Runs the REST application: uvicorn, on a socket that is bound before anything is loaded."""

import asyncio
import math
import socket

import uvicorn

from longtail.models import errors
from longtail.serving.model_server.config import tls as tls_lib
from longtail.serving.model_server.rest import application as application_lib
from longtail.serving.model_server.rest import bodies

_LOOK_S = 0.01  # whether uvicorn has started


class RestServer:
    """The REST side of the model server, on a bound socket that `stop` closes. Start and stop it in one event loop."""

    def __init__(self, listener: socket.socket, limits: bodies.Limits, tls: tls_lib.Server | None = None):
        self._listener = listener
        self._limits = limits
        self._tls = tls
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    async def start(self, application: application_lib.Application, grace_s: float) -> None:
        """Takes requests from now on; `stop` waits `grace_s` seconds for them. WorkError if uvicorn fails to start."""
        self._server = uvicorn.Server(self._config(application, grace_s))
        self._serving = asyncio.ensure_future(self._server.serve(sockets=[self._listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(_LOOK_S)
        if not self._server.started:
            raise errors.WorkError(f"the REST server on port {self.port} did not start; the log says why")

    def _config(self, application: application_lib.Application, grace_s: float) -> uvicorn.Config:
        tls = self._tls
        return uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # below it stands a line for whatever a hostile client sends
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # It counts the connection that asks, too.
            limit_concurrency=(self._limits.max_connections or 2 * self._limits.max_in_flight) + 1,
            timeout_keep_alive=self._limits.keep_alive_s,
            timeout_graceful_shutdown=math.ceil(grace_s),
            ssl_context_factory=None if tls is None else lambda config, default: tls.ssl_context(),
        )

    def begin_stop(self) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.should_exit = True

    async def stop(self) -> None:
        """Takes no more requests, and returns when those under way are done or the grace is over."""
        self.begin_stop()
        if self._serving is not None:
            await self._serving
        self._listener.close()

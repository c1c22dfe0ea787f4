"""Runs the REST application: uvicorn in a thread of its own, on a socket that is bound before anything is loaded."""

import functools
import math
import socket
import threading

import uvicorn

from longtail.models import errors
from longtail.serving.model_server import rest
from longtail.serving.model_server import rest_bodies
from longtail.serving.model_server import rest_protocol
from longtail.serving.model_server import tls as tls_lib


class _Uvicorn(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class RestServer:
    """The REST side of the model server.

    Args:
      listener: a bound socket; it is closed by `stop`.
      limits: what clients may do to their connections.
      tls: what the server proves itself with; None speaks in clear.
    """

    def __init__(
        self,
        listener: socket.socket,
        limits: rest_bodies.Limits,
        tls: tls_lib.Server | None = None,
    ):
        self._listener = listener
        self._limits = limits
        self._tls = tls
        self._application: rest.Application | None = None
        self._server: _Uvicorn | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    def start(self, application: rest.Application, grace_s: float) -> None:
        """Takes requests from now on.

        Args:
          application: what answers them.
          grace_s: how long `stop` waits for requests under way, seconds.

        Raises:
          WorkError: uvicorn does not start; its log says why.
        """
        self._application = application
        server = _Uvicorn(self._config(application, grace_s))
        self._server = server

        def run() -> None:
            try:
                server.run(sockets=[self._listener])
            finally:
                server.ready.set()  # also where it failed, so that nobody waits for it

        self._thread = threading.Thread(target=run, name="rest", daemon=True)
        self._thread.start()
        server.ready.wait()
        if not server.started:
            raise errors.WorkError(f"the REST server on port {self.port} did not start; the log says why")

    def _config(self, application: rest.Application, grace_s: float) -> uvicorn.Config:
        tls = self._tls
        return uvicorn.Config(
            application,
            http=functools.partial(rest_protocol.Protocol, self._limits),  # type: ignore[arg-type]
            loop="uvloop",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="error",  # below it stands a line for whatever a hostile client sends
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=self._limits.keep_alive_s,  # type: ignore[arg-type]  # it takes a float too
            timeout_graceful_shutdown=math.ceil(grace_s),
            ssl_context_factory=None if tls is None else lambda config, default: tls.ssl_context(),
        )

    def begin_stop(self) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.should_exit = True

    def stop(self) -> None:
        """Takes no more requests, and returns when those under way are done or the grace is over."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join()
        if self._application is not None:
            self._application.close()
            self._application = None
        self._listener.close()

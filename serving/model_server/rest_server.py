"""Runs the REST application: uvicorn in a thread of its own, on a socket that is bound before anything is loaded."""

import math
import socket
import threading

import uvicorn
from starlette import applications

from serving import errors


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
    """

    def __init__(self, listener: socket.socket):
        self._listener = listener
        self._server: _Uvicorn | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.getsockname()[1]

    def start(self, application: applications.Starlette, grace_s: float) -> None:
        """Takes requests from now on.

        Args:
          application: what answers them.
          grace_s: how long `stop` waits for requests under way, seconds.

        Raises:
          WorkError: uvicorn does not start; its log says why.
        """
        config = uvicorn.Config(
            application,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=math.ceil(grace_s),
        )
        server = _Uvicorn(config)
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

    def begin_stop(self) -> None:
        """Takes no more requests."""
        if self._server is not None:
            self._server.should_exit = True

    def stop(self) -> None:
        """Takes no more requests, and returns when those under way are done or the grace is over."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join()
        self._listener.close()

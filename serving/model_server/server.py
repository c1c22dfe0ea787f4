"""Starts and stops the embedded model server: both ports, the model, the gallery and the watch for new versions."""

import dataclasses
import errno
import os
import socket
import time
from types import TracebackType

from serving import errors
from serving.model_server import grpc_service
from serving.model_server import loader
from serving.model_server import request_log as request_log_lib
from serving.model_server import rest
from serving.model_server import rest_server
from serving.model_server import retrieval as retrieval_lib
from serving.model_server import watcher

LOOPBACK = "127.0.0.1"
DEFAULT_GRPC_PORT = 8500
DEFAULT_REST_PORT = 8501


@dataclasses.dataclass(frozen=True)
class Options:
    """What to serve, and where.

    Attributes:
      model: folder that holds a folder for each version of the model.
      name: what clients call the model; the folder's name where empty.
      gallery: folder of a gallery to search, none where empty.
      host: address to listen on.
      grpc_port: 0 picks a free one.
      rest_port: 0 picks a free one.
      poll_s: pause between two looks for new versions, seconds.
      grace_s: how long stopping waits for requests under way, seconds.
      threads: gRPC requests worked on at once.
      request_log: which requests are kept, and where; None keeps none.
    """

    model: str
    name: str = ""
    gallery: str = ""
    host: str = LOOPBACK
    grpc_port: int = DEFAULT_GRPC_PORT
    rest_port: int = DEFAULT_REST_PORT
    poll_s: float = 2.0
    grace_s: float = 10.0
    threads: int = 16
    request_log: request_log_lib.Options | None = None

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return self.name or os.path.basename(os.path.abspath(self.model.rstrip("/")))


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise errors.UsageError(
                f"port {port} on {host} is taken; name another with {option} (0 picks a free one)"
            ) from error
        raise errors.UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror}; name another with --host or {option}"
        ) from error
    except OverflowError as error:
        raise errors.UsageError(f"{option} must be from 0 to 65535. Received: {port}") from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ModelServer:
    """An embedded server that speaks TF Serving's API. Also a context manager, which starts and stops it.

    Example:
      with ModelServer(Options("runs/glyphs/model", grpc_port=0, rest_port=0)) as server:
        client.Client(server.grpc_address, server.options.model_name).embed([image])
    """

    def __init__(self, options: Options):
        self.options = options
        self.source = loader.ModelSource(options.model_name, options.model)
        self.retrieval: retrieval_lib.Retrieval | None = None
        self.request_log: request_log_lib.RequestLog | None = None
        self._grpc: grpc_service.GrpcServer | None = None
        self._rest: rest_server.RestServer | None = None
        self._watcher: watcher.Watcher | None = None

    def start(self) -> None:
        """Binds the ports, loads the model and the gallery, then takes requests.

        Raises:
          UsageError: a port is taken, the model folder has no version, the gallery does not fit the model, or the
            request log cannot be written.
          WorkError: no version of the model loads.
        """
        loader.check_folder(self.options.model)
        try:
            if self.options.request_log is not None:
                self.request_log = request_log_lib.RequestLog(self.options.request_log)
            self._bind()
            self._serve()
        except BaseException:
            self.stop()
            raise

    def _bind(self) -> None:
        """Takes both ports first: they tell in no time what would else be told after the model is loaded."""
        options = self.options
        # gRPC says only that it failed, and says it on stderr too; a socket of our own knows why.
        _listen(options.host, options.grpc_port, "--grpc-port").close()
        address = _address(options.host, options.grpc_port)
        self._grpc = grpc_service.GrpcServer(self.source, address, options.threads, self.request_log)
        self._rest = rest_server.RestServer(_listen(options.host, options.rest_port, "--rest-port"))

    def _serve(self) -> None:
        assert self._grpc is not None and self._rest is not None
        options = self.options
        self.source.poll()
        if self.source.latest() is None:
            states = self.source.states(options.model_name)
            why = "; ".join(f"version {state.version}: {state.error_message}" for state in states)
            raise errors.WorkError(f"model {options.model}: no version loads ({why}); export it again")
        if options.gallery:
            self.retrieval = retrieval_lib.Retrieval(self.source, options.gallery, self.request_log)
        if self.request_log is not None:
            self.request_log.start()
        self._rest.start(rest.application(self.source, self.retrieval, self.request_log), options.grace_s)
        self._grpc.start()
        polls = [self.source.poll, *([self.retrieval.poll] if self.retrieval else [])]
        self._watcher = watcher.Watcher(polls, options.poll_s)
        self._watcher.start()

    def stop(self) -> None:
        """Drains: no new requests, those under way are finished within the grace, then the ports are free."""
        until = time.monotonic() + self.options.grace_s
        if self._watcher is not None:
            self._watcher.begin_stop()
        if self._rest is not None:
            self._rest.begin_stop()
        if self._grpc is not None:
            self._grpc.stop(self.options.grace_s)
        if self._rest is not None:
            self._rest.stop()
        if self.request_log is not None:
            self.request_log.stop(self.options.grace_s)  # after the last request
        if self._watcher is not None:
            self._watcher.stop(max(0.0, until - time.monotonic()))  # a daemon: a longer load dies with the process

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of the gRPC side."""
        assert self._grpc is not None, "the server is not started"
        return _address(self.options.host, self._grpc.port)

    @property
    def rest_address(self) -> str:
        """HOST:PORT of the REST side."""
        assert self._rest is not None, "the server is not started"
        return _address(self.options.host, self._rest.port)

    def __enter__(self) -> "ModelServer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

"""Starts and stops the embedded model server: both ports, the model, the gallery and the watch for new versions."""

import dataclasses
import errno
import gc
import os
import socket
import time
from types import TracebackType

import grpc
from tensorflow_serving.config import model_server_config_pb2

from longtail.models import errors
from longtail.serving import gallery as gallery_lib
from longtail.serving import retrieval as retrieval_lib
from longtail.serving.model_server import event_loop
from longtail.serving.model_server import metrics
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server.batching import asking
from longtail.serving.model_server.batching import scheduler as scheduler_lib
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.config import files as config_files
from longtail.serving.model_server.config import model_file
from longtail.serving.model_server.config import tls as tls_lib
from longtail.serving.model_server.config import watcher
from longtail.serving.model_server.grpc import server as grpc_server
from longtail.serving.model_server.rest import api
from longtail.serving.model_server.rest import application
from longtail.serving.model_server.rest import bodies
from longtail.serving.model_server.rest import server as rest_server
from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors

LOOPBACK = "127.0.0.1"
DEFAULT_GRPC_PORT = 8500
DEFAULT_REST_PORT = 8501


@dataclasses.dataclass(frozen=True)
class Options:
    """What to serve, and where."""

    model: str = ""  # folder that holds a folder for each version; empty where `model_config` says what to serve
    name: str = ""  # what clients call the model; the folder's name where empty
    gallery: str = ""  # folder of a gallery to search, none where empty
    host: str = LOOPBACK
    grpc_port: int = DEFAULT_GRPC_PORT  # 0 picks a free one
    rest_port: int = DEFAULT_REST_PORT  # likewise
    poll_s: float = 2.0  # pause between two looks for new versions; 0 looks only at the start
    grace_s: float = 10.0  # how long stopping waits for requests under way
    grpc: grpc_server.Options = grpc_server.Options()
    batching: scheduler_lib.Options = scheduler_lib.Options()
    request_log: request_log_lib.Options | None = None  # None keeps no requests
    model_config: str = ""  # file of TF Serving's ModelServerConfig
    config_poll_s: float = 0.0  # pause between two looks whether that file changed; 0 looks only at the start
    load: loader.Options = loader.Options()
    labels_before_versions: bool = False  # whether a new label may point at a version that does not serve yet
    rest: bodies.Limits = bodies.Limits()
    metrics_path: str = metrics.PATH  # where Prometheus reads; empty for nowhere
    token_file: str = ""  # bearer tokens; empty for those of the environment, if any
    tls: tls_lib.Server | None = None  # None speaks in clear

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.model_config):
            raise errors.UsageError("name either a model's folder (--model) or a --model_config_file")

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return self.name or os.path.basename(os.path.abspath(self.model.rstrip("/")))


def _listen(host: str, port: int, option: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()  # as gRPC listens there
    try:
        return socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=both)
    except OSError as error:
        line = f"cannot listen on {host}, port {port}: {error.strerror}; name another with --host or {option}"
        if error.errno == errno.EADDRINUSE:
            line = f"port {port} on {host} is taken; name another with {option} (0 picks a free one)"
        raise errors.UsageError(line) from error
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
        self.models = models_lib.Models(options.load, options.labels_before_versions)
        self.retrieval: retrieval_lib.Retrieval | None = None
        self.request_log: request_log_lib.RequestLog | None = None
        self.scheduler: scheduler_lib.Scheduler | None = None
        self._tokens: auth.Tokens | None = None
        self._serves = False
        self._listeners: list[socket.socket] = []
        self._grpc: grpc_server.GrpcServer | None = None
        self._rest: rest_server.RestServer | None = None
        self._watchers: list[watcher.Watcher] = []
        self._config_file = model_file.ConfigFile(options.model_config, self.models)

    @property
    def source(self) -> loader.ModelSource:
        """The versions of the first model."""
        source = self.models.source(next(iter(self.models.names()), ""))
        assert source is not None, "the server is not started"
        return source

    def start(self) -> None:
        """Binds the ports, loads the model and the gallery, then takes requests.

        Raises:
          UsageError: a port is taken, the model folder has no version, the gallery does not fit the model, or the
            request log cannot be written.
          WorkError: no version of the model loads.
        """
        options = self.options
        self._tokens = auth.tokens(options.token_file, os.environ)
        auth.warn_if_open(options.host, self._tokens, options.tls)
        config = self._config_file.load() if options.model_config else models_lib.one(options.model_name, options.model)
        for model in config.model_config_list.config:
            loader.check_folder(options.model or model.base_path)
        # Before the models are loaded: it may be told in no time that it is no gallery.
        gallery = gallery_lib.load(options.gallery) if options.gallery else None
        try:
            if options.request_log is not None:
                self.request_log = request_log_lib.RequestLog(options.request_log)
            self._bind()
            # What is there before a model is stays: looking through it for garbage would keep requests waiting.
            gc.collect()
            gc.freeze()
            self._load(config)
            if gallery is not None:
                source = self._source_of(gallery)
                self.retrieval = retrieval_lib.Retrieval(source, options.gallery, self.request_log, gallery)
            if self.request_log is not None:
                self.request_log.start()
            self._serves = True
            event_loop.call(self._serve())
            self._watch()
        except BaseException:
            self.stop()
            raise

    def _bind(self) -> None:
        """Takes both ports first: they tell in no time what would else be told after the model is loaded."""
        # gRPC says only that it failed, and says it on stderr too; a socket of our own knows why.
        self._listeners += (
            _listen(self.options.host, self.options.grpc_port, "--grpc-port"),
            _listen(self.options.host, self.options.rest_port, "--rest-port"),
        )

    def _load(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        options = self.options
        try:
            self.models.reload(config)
        except request_errors.RequestError as error:
            line = f"{config_files.MODELS} {options.model_config}: {error.message}"
            if error.code == grpc.StatusCode.FAILED_PRECONDITION:
                line += "; add the labels later, or start with --allow_version_labels_for_unavailable_models"
            if error.code != grpc.StatusCode.UNKNOWN:
                raise errors.UsageError(line) from error
            if not options.model_config:
                why = "; ".join(f"version {state.version}: {state.error_message}" for state in self.source.known())
                line = f"model {options.model}: no version loads ({why}); export it again"
            raise errors.WorkError(line) from error

    def _source_of(self, gallery: gallery_lib.Gallery) -> loader.ModelSource:
        """The model whose gallery it is; of a server of one model that is for Retrieval to say."""
        names = self.models.names()
        source = self.source if len(names) == 1 else self.models.source(gallery.model_name)
        if source is None:
            raise errors.UsageError(
                f"gallery {gallery.path} was built by model {gallery.model_name}, but served are {', '.join(names)}"
            )
        return source

    async def _serve(self) -> None:
        options, (grpc_listener, rest_listener) = self.options, self._listeners
        self.scheduler = scheduler_lib.Scheduler(options.batching)
        asker = asking.Asker(self.scheduler)
        answers = api.Api(self.models, asker, options.rest.timeout_s, self.retrieval, self.request_log)
        app = application.Application(answers, options.rest, self._tokens, options.metrics_path)
        self._rest = rest_server.RestServer(rest_listener, options.rest, options.tls)
        address = _address(options.host, grpc_listener.getsockname()[1])
        grpc_listener.close()  # gRPC binds the port itself
        self._grpc = grpc_server.GrpcServer(
            self.models, asker, address, options.grpc, self.request_log, self._tokens, options.tls
        )
        await self._rest.start(app, options.grace_s)
        await self._grpc.start()

    def _watch(self) -> None:
        options = self.options
        rounds = [(options.poll_s, self.models.poll)]
        if self.retrieval is not None:
            rounds.append((options.poll_s, self.retrieval.poll))
        if options.model_config:
            rounds.append((options.config_poll_s, self._config_file.poll))
        if self._tokens is not None and options.token_file:
            rounds.append((auth.POLL_S, self._tokens.poll))
        for seconds in sorted({seconds for seconds, _ in rounds} - {0.0}):  # 0 looks only at the start
            polls = [poll for every, poll in rounds if every == seconds]
            self._watchers.append(watcher.Watcher(polls, seconds))
            self._watchers[-1].start()

    def stop(self) -> None:
        """Drains: no new requests, those under way are finished within the grace, then the ports are free."""
        until = time.monotonic() + self.options.grace_s
        self.models.begin_stop()
        for watching in self._watchers:
            watching.begin_stop()
        serves, self._serves = self._serves, False
        if serves:
            event_loop.call(self._drain())
        for listener in self._listeners:
            listener.close()
        if self.scheduler is not None:
            self.scheduler.stop()
        if self.request_log is not None:
            self.request_log.stop(self.options.grace_s)  # after the last request
        for watching in self._watchers:
            watching.stop(max(0.0, until - time.monotonic()))  # a daemon: a longer load dies with the process
        self.models.close(max(0.0, until - time.monotonic()))

    async def _drain(self) -> None:
        if self._rest is not None:
            self._rest.begin_stop()
        if self._grpc is not None:
            await self._grpc.stop(self.options.grace_s)
        if self._rest is not None:
            await self._rest.stop()

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

"""The models of a server: TF Serving's ModelServerConfig says which they are, at the start and while it serves."""

import logging
import os
import threading
import time
from collections.abc import Collection

import grpc
from tensorflow_serving.config import model_server_config_pb2

from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from longtail.serving.model_server.runtime import version_states

log = logging.getLogger("longtail")

PLATFORM = "tensorflow"
_CLOSE_S = 1.0  # for unloads under way at the end; one whose requests hang is not waited for
_REMEMBERED = 128  # names of models that were taken out, for their status

Labels = dict[str, dict[str, int]]  # model -> label -> version


def one(name: str, folder: str) -> model_server_config_pb2.ModelServerConfig:
    """The config of a server of one model."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=os.path.abspath(folder), model_platform=PLATFORM)
    return config


def _policy(config: model_server_config_pb2.ModelConfig) -> loader.Policy:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return loader.Policy(latest=None)
    if choice == "specific":
        return loader.Policy(latest=None, specific=frozenset(policy.specific.versions))
    return loader.Policy(latest=max(1, policy.latest.num_versions))


def _check_platform(config: model_server_config_pb2.ModelConfig, is_new: bool) -> None:
    is_old_way = config.model_type == model_server_config_pb2.TENSORFLOW  # deprecated
    platform = config.model_platform or (PLATFORM if is_old_way else "")
    if platform != PLATFORM:
        raise request_errors.invalid(
            f"Model {config.name} requests unsupported platform {platform}; set model_platform: \"{PLATFORM}\""
            if is_new
            else f"Illegal to change a model's platform. For model {config.name} platform was {PLATFORM} and new "
            f"platform requested is {platform}"
        )


def _check(configs: Collection[model_server_config_pb2.ModelConfig], served: Collection[str]) -> None:
    """Raises INVALID_ARGUMENT where models cannot be served so, in the words of TF Serving's server_core.cc."""
    names: set[str] = set()
    for config in configs:
        if not config.name:
            raise request_errors.invalid("Illegal to list a model without a name in config list")
        if config.name in names:
            raise request_errors.invalid(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)
        if not (os.path.isabs(config.base_path) or "://" in config.base_path):
            raise request_errors.invalid(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
        _check_platform(config, config.name not in served)


def _unavailable(sources: Collection[loader.ModelSource]) -> request_errors.RequestError:
    """What TF Serving's server_core.cc says of models that did not load."""
    failed = ""
    for source in sources:
        whys = [
            f" version: {state.version}}} due to error: {request_errors.code_name(state.error_code)}: "
            f"{state.error_message}"
            for state in source.known()
        ]
        for why in whys or [f"}} due to error: NOT_FOUND: no version folder in {source.folder}"]:
            failed += f"{{{{name: {source.name}{why}}}, "
    line = f"{len(sources)} model(s) did not become available: {{{failed}}}"
    return request_errors.RequestError(grpc.StatusCode.UNKNOWN, line)


class Models:
    """Every model of a server, by name. A new label may point at a version that does not serve yet if that is said."""

    def __init__(self, load: loader.Options | None = None, labels_before_versions: bool = False):
        self._load = load or loader.Options()
        self._labels_before_versions = labels_before_versions
        self._sources: dict[str, loader.ModelSource] = {}  # replaced as a whole: requests read it without a lock
        self._removed: dict[str, loader.ModelSource] = {}
        self._labels: Labels = {}
        self._out_of_reach: dict[str, str] = {}
        self._stopping = False
        self._changing = threading.RLock()

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serves the models of `config` and no others; returns when those that are new answer or have failed.

        What both configs have is left as it is, but for its policy, folder and labels. A model that is taken out is
        unloaded when the requests it has begun are done. A new model that fails is looked after all the same: it
        serves as soon as it loads.

        Raises:
          RequestError: INVALID_ARGUMENT or FAILED_PRECONDITION, the config cannot be, and nothing was changed; UNKNOWN,
            a new model did not become available.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise request_errors.invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        configs = config.model_config_list.config
        with self._changing:
            _check(configs, self._sources)
            self._labels = self._checked_labels(configs)
            new = self._take(configs)
            self.poll()
            failed = [source for source in new if source.latest() is None]
        if failed:
            raise _unavailable(failed)

    def _checked_labels(self, configs: Collection[model_server_config_pb2.ModelConfig]) -> Labels:
        """The labels of `configs`, each at a version that answers now or, where that is allowed, may later."""
        labels: Labels = {}
        for config in configs:
            source, used = self._sources.get(config.name), self._labels.get(config.name, {})
            for label, version in sorted(config.version_labels.items()):
                free = self._labels_before_versions and used.get(label, version) == version
                if not free and (source is None or not source.is_available(version)):
                    raise request_errors.RequestError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {config.name}, "
                        "which is not currently available for inference",
                    )
                labels.setdefault(config.name, {})[label] = version
        return labels

    def _take(self, configs: Collection[model_server_config_pb2.ModelConfig]) -> list[loader.ModelSource]:
        """Makes `configs` the models there are; returns the new ones, of which nothing is loaded yet."""
        sources: dict[str, loader.ModelSource] = {}
        for config in configs:
            if config.HasField("logging_config"):
                log.warning("model %s: logging_config is not used; --request-log keeps requests", config.name)
            source = self._sources.get(config.name)
            if source is None:
                source = loader.ModelSource(config.name, config.base_path, _policy(config), self._load)
            else:
                source.change(config.base_path, _policy(config))
            sources[config.name] = source
        old, self._sources = self._sources, sources
        for name in set(old) - set(sources):
            self._removed.pop(name, None)
            self._removed[name] = old[name]
            old[name].close()
        for name in list(self._removed)[:-_REMEMBERED]:
            del self._removed[name]
        return [sources[name] for name in sources if name not in old]

    def poll(self) -> None:
        """Looks for new versions of every model. A folder out of reach is told once and keeps no other waiting."""
        with self._changing:
            for source in self._sources.values():
                try:
                    source.poll()
                    self._out_of_reach.pop(source.name, None)
                except Exception as error:  # it may be back in the next round
                    why = f"looking for versions in {source.folder} failed: {request_errors.told(error)[1]}"
                    if self._out_of_reach.get(source.name) != why:
                        self._out_of_reach[source.name] = why
                        log.error("model %s: %s; trying again", source.name, why)

    def names(self) -> Collection[str]:
        """What there is to ask for."""
        return self._sources.keys()

    def source(self, name: str) -> loader.ModelSource | None:
        """The versions of a model, None where there is no such model."""
        return self._sources.get(name)

    def _find(self, name: str, version: int | None, label: str) -> tuple[loader.ModelSource, int | None]:
        if label:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise request_errors.invalid(f"Unrecognized servable version label: {label}")
        source = self._sources.get(name)
        if source is None:
            raise request_errors.no_servable(name, version)
        return source, version

    def get(self, name: str, version: int | None = None, label: str = "") -> servable_lib.Servable:
        """What a request asks for, to look at: NOT_FOUND where no version answers, INVALID_ARGUMENT for a label."""
        source, version = self._find(name, version, label)
        return source.get(version)

    def acquire(self, name: str, version: int | None = None, label: str = "") -> servable_lib.Servable:
        """As `get`. It stays loaded until `release` is called on it."""
        source, version = self._find(name, version, label)
        return source.acquire(version)

    def wait_for(self, name: str, version: int, state: int, timeout_s: float) -> bool:
        """Blocks until a version is in `state`; False where that takes longer than `timeout_s` seconds."""
        return self._known(name, version).wait_for(version, state, timeout_s)

    def states(self, name: str, version: int | None = None) -> list[version_states.VersionState]:
        """What became of every version of a model, also of one taken out, or of one; latest first; NOT_FOUND."""
        found = [state for state in self._known(name, version).known() if version in (None, state.version)]
        if not found:
            raise request_errors.no_states(name, version)
        return found

    def _known(self, name: str, version: int | None) -> loader.ModelSource:
        source = self._sources.get(name) or self._removed.get(name)
        if source is None:
            raise request_errors.no_states(name, version)
        return source

    def ready(self) -> bool:
        """Whether every model answers, and goes on to."""
        return not self._stopping and all(source.latest() is not None for source in self._sources.values())

    def begin_stop(self) -> None:
        """Says to those who ask that it will not be ready any more. Requests are answered on."""
        self._stopping = True

    def close(self, timeout_s: float) -> None:
        """Unloads every model, unless something is being loaded for longer than `timeout_s` seconds."""
        if not self._changing.acquire(timeout=timeout_s):
            return
        try:
            for source in self._sources.values():
                source.close()
            until = time.monotonic() + _CLOSE_S
            for source in self._sources.values():
                source.wait_closed(until)
        finally:
            self._changing.release()

"""Keeps the versions of a model that its policy wants serving, and knows what became of every version."""

import dataclasses
import logging
import os
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import tensorflow as tf

from longtail.models import errors
from longtail.models.export import versions
from longtail.serving.model_server import metrics
from longtail.serving.model_server.runtime import inference
from longtail.serving.model_server.runtime import memory
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from longtail.serving.model_server.runtime import version_states

log = logging.getLogger("longtail")
_STATE = version_states.STATE
_NICE = 10  # of 19: a tenth of the weight of a thread that answers requests


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which of the versions in a model's folder serve. The default is the latest."""

    latest: int | None = 1  # how many, counted from the highest that loads; None for all
    specific: frozenset[int] | None = None  # those of these numbers only; None for any


@dataclasses.dataclass(frozen=True)
class Options:
    """How versions are loaded, and unloaded."""

    retries: int = 5  # how often a version that failed is tried again although its files have not changed
    retry_s: float = 60.0  # pause before each of them
    warm_ups: int = 1  # how often the requests in `assets.extra` are run before a version serves
    session: servable_lib.SessionOptions = servable_lib.SessionOptions()
    # How long a version that was replaced stays in memory: freeing it takes the processor from requests, and the first
    # of the new version are the slowest as it is.
    unload_after_s: float = 0.0


@dataclasses.dataclass(frozen=True)
class _Failure:
    """A version that did not load, as it was then."""

    fingerprint: tuple[Any, ...]
    tries: int
    at: float


def check_folder(folder: str) -> None:
    """Raises UsageError where `folder` has no version of a model in it."""
    if not tf.io.gfile.isdir(folder):
        what = "a file, not a folder of versions" if tf.io.gfile.exists(folder) else "no such folder"
        raise errors.UsageError(f"model {folder}: {what}")
    try:
        found = versions.find(folder)
        inside = sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise errors.UsageError(f"model {folder} cannot be listed: {error.message}") from error
    if found:
        return
    if tf.saved_model.contains_saved_model(folder):
        parent, name = os.path.split(folder.rstrip("/"))
        hint = f"serve {parent or '.'}" if name.isdecimal() else f"move it to {os.path.join(folder, '1')}"
        raise errors.UsageError(f"model {folder} is a SavedModel itself, not a folder of versions; {hint}")
    below = [path for name in inside if versions.find(path := os.path.join(folder, name))]
    if below:
        raise errors.UsageError(f"model {folder} is a folder of models, not of versions; serve one: {', '.join(below)}")
    raise errors.UsageError(f"model {folder} has no version folder (1, 2, ...) in it; export or push a model first")


def _give_way() -> None:
    """Lets this thread, from now on, have the processor where no other thread of the server asks for it.

    TensorFlow works for seconds at preparing a graph, during which requests would wait for a core.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _load_aside(*what: Any) -> servable_lib.Servable:
    """As `_load`, in a thread that gives way; its own, since no thread can take its priority back."""
    with futures.ThreadPoolExecutor(1, "load", _give_way) as aside:
        return aside.submit(_load, *what).result()


def _load(name: str, version: int, path: str, options: Options) -> servable_lib.Servable:
    """A version, loaded and warmed up. Whatever it raises, nothing is left in memory."""
    began = time.monotonic()
    try:
        servable = servable_lib.Servable(name, version, path, options.session)
    except BaseException:
        metrics.loaded(path, False, time.monotonic() - began)
        raise
    loaded = time.monotonic()
    metrics.loaded(path, True, loaded - began)
    warmed = 0
    try:
        for _ in range(options.warm_ups):
            warmed = inference.warm_up(servable, path)
    except BaseException as error:
        servable.close()
        metrics.warmed(path, request_errors.told(error)[0], warmed, time.monotonic() - loaded)
        raise
    metrics.warmed(path, grpc.StatusCode.OK, warmed, time.monotonic() - loaded)
    log.info("model %s version %d is loaded, %d warm-up requests run", name, version, warmed)
    return servable


class ModelSource:
    """The versions of one model. Those its policy wants serve; one that is held answers to those who name it."""

    def __init__(self, name: str, folder: str, policy: Policy = Policy(), options: Options = Options()):
        self.name = name
        self.folder = folder
        self.policy = policy
        self._options = options
        self._states = version_states.VersionStates()
        self._serving: servable_lib.Servable | None = None
        self._loaded: dict[int, servable_lib.Servable] = {}
        self._wanted: set[int] = set()
        self._held: set[int] = set()
        self._failures: dict[int, _Failure] = {}
        self._missing: frozenset[int] = frozenset()
        self._closed = threading.Event()
        self._unloads: list[threading.Thread] = []
        self._changing = threading.RLock()  # one at a time loads and unloads; requests are answered all the while

    def poll(self) -> None:
        """Loads what the policy wants and can be loaded, then unloads what it does not want any more.

        A version answers from the moment it is loaded, and what it replaces answers until then. A version that fails
        to load is tried again when its files change, and a few times although they do not. Where no version that is
        wanted can be loaded, or all are gone, what served before serves on.
        """
        with self._changing:
            found = versions.find(self.folder)
            self._say_missing(found)
            self._failures = {version: failure for version, failure in self._failures.items() if version in found}
            wanted: set[int] = set()
            for version, path in found.items():
                if len(wanted) == self.policy.latest:
                    break
                is_specified = self.policy.specific is None or version in self.policy.specific
                if is_specified and self._is_loaded(version, path):
                    if not wanted:
                        self._serving = self._loaded[version]
                    self._tell_available(version)
                    wanted.add(version)
            if wanted:
                self._wanted = wanted
                self._end_unneeded()

    def change(self, folder: str, policy: Policy) -> None:
        """Takes another folder or policy from the next poll on. What is loaded stays loaded, as in TF Serving."""
        with self._changing:
            self.folder, self.policy = folder, policy
            self._missing = frozenset()

    def hold(self, version: int) -> servable_lib.Servable | None:
        """Keeps `version` answering to those who name it until it is released; None where it cannot be loaded."""
        with self._changing:
            if not self._is_loaded(version, versions.find(self.folder).get(version, "")):
                return None
            self._held.add(version)
            self._tell_available(version)
            return self._loaded[version]

    def release(self, version: int) -> None:
        """Ends what `hold` began: from now on the version answers only if the policy wants it."""
        with self._changing:
            self._held.discard(version)
            self._end_unneeded()

    def close(self) -> None:
        """Unloads every version, each when the requests it has begun are done."""
        self._closed.set()
        with self._changing:
            self._serving, self._wanted, self._held = None, set(), set()
            self._end_unneeded()

    def wait_closed(self, until: float) -> None:
        """Blocks until what `close` began is over, or the moment `until` of `time.monotonic` has come."""
        for unload in self._unloads:
            unload.join(max(0.0, until - time.monotonic()))

    def _say_missing(self, found: dict[int, str]) -> None:
        missing = (self.policy.specific or frozenset()) - set(found)
        if missing - self._missing:
            numbers = ", ".join(map(str, sorted(missing)))
            log.warning("model %s: version %s is to serve, but is not in %s", self.name, numbers, self.folder)
        self._missing = missing

    def _tell_available(self, version: int) -> None:
        if not self.is_available(version):
            # Not before it answers: who waits for it may ask at once.
            self._states.set(version_states.VersionState(version, _STATE.AVAILABLE))
            log.info("model %s version %d serves", self.name, version)

    def _end_unneeded(self) -> None:
        for version in sorted(set(self._loaded) - self._wanted - self._held):
            self._states.set(version_states.VersionState(version, _STATE.UNLOADING))
            servable = self._loaded.pop(version)
            servable.retire()
            is_now = self._closed.is_set() or not self._options.unload_after_s
            if is_now and servable.wait_idle(0.0):
                self._finish(servable)
            else:
                unload = threading.Thread(target=self._finish, args=[servable], name="unload", daemon=True)
                self._unloads = [*filter(threading.Thread.is_alive, self._unloads), unload]
                unload.start()

    def _finish(self, servable: servable_lib.Servable) -> None:
        servable.wait_idle(None)
        self._closed.wait(self._options.unload_after_s)
        servable.close()
        memory.give_back()
        self._states.end(servable.version)

    def _is_loaded(self, version: int, path: str) -> bool:
        """Whether `version` is in memory; loads it where it is not, but not again what failed and is not due."""
        if version in self._loaded:
            return True
        if not path:
            return False
        seen, failure = versions.fingerprint(path), self._failures.get(version)
        tries = failure.tries if failure is not None and failure.fingerprint == seen else 0
        if failure is not None and tries:
            due = time.monotonic() - failure.at >= self._options.retry_s
            if tries > self._options.retries or not due:
                return False
        self._states.set(version_states.VersionState(version, _STATE.LOADING))
        try:
            self._loaded[version] = _load_aside(self.name, version, path, self._options)
        except Exception as error:  # a model folder may be broken in any way; whichever, the old version serves on
            code, line = request_errors.told(error)
            line = line if path in line else f"{line} (loading {path})"  # TensorFlow names a file now and then only
            log.error("model %s version %d does not load: %s", self.name, version, line)
            self._states.set(version_states.VersionState(version, _STATE.END, code.value[0], line))
            self._failures[version] = _Failure(seen, tries + 1, time.monotonic())
            return False
        self._failures.pop(version, None)
        return True

    def latest(self) -> servable_lib.Servable | None:
        """The version that serves those who name none, None where none does."""
        return self._serving

    def get(self, version: int | None = None) -> servable_lib.Servable:
        """The version that answers those who name `version`, or name none; NOT_FOUND where none does."""
        servable = self._serving if version is None else self._loaded.get(version)
        if servable is None:
            raise request_errors.no_servable(self.name, version)
        return servable

    def acquire(self, version: int | None = None) -> servable_lib.Servable:
        """As `get`, and it stays loaded until it is released."""
        while not (servable := self.get(version)).acquire():  # retired since it was looked up: by now there is another
            continue
        return servable

    def is_available(self, version: int) -> bool:
        """Whether a version answers to those who name it."""
        return self._states.state(version) == _STATE.AVAILABLE

    def known(self) -> list[version_states.VersionState]:
        """What became of every version ever seen, of none where none was; latest first."""
        return self._states.all()

    def wait_for(self, version: int, state: int, timeout_s: float) -> bool:
        """Blocks until `version` is in `state`; False where that takes longer than `timeout_s` seconds."""
        return self._states.wait_for(version, state, timeout_s)

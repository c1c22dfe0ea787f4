"""Keeps the latest loadable version of a model folder serving, and knows what became of every version."""

import dataclasses
import logging
import os
import threading
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2

from serving import errors
from serving import versions
from serving.model_server import inference
from serving.model_server import request_errors
from serving.model_server import servable as servable_lib

_log = logging.getLogger("longtail")
_STATE = get_model_status_pb2.ModelVersionStatus


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What became of a version.

    Attributes:
      version: its number.
      state: a State of ModelVersionStatus: LOADING, AVAILABLE or END.
      error_code: a code of gRPC's, 0 where all is well.
      error_message: one line, empty where all is well.
    """

    version: int
    state: int
    error_code: int = 0
    error_message: str = ""


def check_folder(folder: str) -> None:
    """Raises UsageError where `folder` has no version of a model in it."""
    if not tf.io.gfile.isdir(folder):
        raise errors.UsageError(f"model {folder}: no such folder")
    try:
        found = versions.find(folder)
    except tf.errors.OpError as error:
        raise errors.UsageError(f"model {folder} cannot be listed: {error.message}") from error
    if found:
        return
    if tf.io.gfile.exists(os.path.join(folder, "saved_model.pb")):
        parent, name = os.path.split(folder.rstrip("/"))
        hint = f"serve {parent or '.'}" if name.isdecimal() else f"move it to {os.path.join(folder, '1')}"
        raise errors.UsageError(f"model {folder} is a SavedModel itself, not a folder of versions; {hint}")
    raise errors.UsageError(f"model {folder} has no version folder (1, 2, ...) in it; export or push a model first")


def _stat(file: str) -> tuple[Any, ...]:
    try:
        stat = tf.io.gfile.stat(file)
    except tf.errors.OpError as error:  # a dangling link, or a file deleted since it was listed
        return file, error.error_code
    return file, stat.length, stat.mtime_nsec


def _fingerprint(path: str) -> tuple[Any, ...]:
    """Changes when any file below `path` does; a broken version is tried again only then.

    A file that cannot be read is part of it too: whether the version can do without is for loading to say.
    """
    try:
        files = [os.path.join(at, name) for at, _, names in tf.io.gfile.walk(path) for name in names]
    except tf.errors.OpError as error:
        return (error.error_code,)
    return tuple(_stat(file) for file in sorted(files))


class ModelSource:
    """The versions of one model: the latest serves, and one that is held answers to those who name it.

    Args:
      name: what clients call the model.
      folder: holds a folder for each version.
    """

    def __init__(self, name: str, folder: str):
        self.name = name
        self.folder = folder
        self._serving: servable_lib.Servable | None = None
        self._loaded: dict[int, servable_lib.Servable] = {}
        self._held: set[int] = set()
        self._states: dict[int, VersionState] = {}
        self._broken: dict[int, tuple[Any, ...]] = {}
        self._changed = threading.Condition()

    def poll(self) -> None:
        """Loads the latest version that can be, if it is not the one serving; call it from one thread only.

        While it loads, the old version answers; requests it has begun it finishes. A version that fails to load
        is left alone until its files change. Where all versions are gone the last one serves on.
        """
        for version, path in versions.find(self.folder).items():
            if self._serving is not None and version == self._serving.version:
                return
            if self._is_loaded(version, path):
                old, self._serving = self._serving, self._loaded[version]
                self._set(VersionState(version, _STATE.AVAILABLE))  # not before: who waits for it may ask at once
                _log.info("model %s version %d serves", self.name, version)
                if old is not None:
                    self._end_unless_needed(old.version)
                return

    def hold(self, version: int) -> servable_lib.Servable | None:
        """Keeps `version` answering to those who name it, whichever is the latest, until it is released.

        Call it from the thread that polls.

        Returns:
          The version, loaded now where it was not; None where its folder is not there or does not load.
        """
        path = versions.find(self.folder).get(version, "")
        if not self._is_loaded(version, path):
            return None
        self._held.add(version)
        self._set(VersionState(version, _STATE.AVAILABLE))
        return self._loaded[version]

    def release(self, version: int) -> None:
        """Ends what `hold` began; the version answers on only where it is the latest."""
        self._held.discard(version)
        self._end_unless_needed(version)

    def _end_unless_needed(self, version: int) -> None:
        is_latest = self._serving is not None and version == self._serving.version
        if is_latest or version in self._held or version not in self._loaded:
            return
        del self._loaded[version]
        self._set(VersionState(version, _STATE.END))

    def _is_loaded(self, version: int, path: str) -> bool:
        """Whether `version` is in memory; loads it where it is not, but not again what failed and has not changed."""
        if version in self._loaded:
            return True
        if not path or self._broken.get(version) == (seen := _fingerprint(path)):
            return False
        if self._load(version, path):
            self._broken.pop(version, None)
            return True
        self._broken[version] = seen
        return False

    def _load(self, version: int, path: str) -> bool:
        self._set(VersionState(version, _STATE.LOADING))
        try:
            servable = servable_lib.Servable(self.name, version, path)
            warmed = inference.warm_up(servable, path)
        except Exception as error:  # a model folder may be broken in any way; whichever, the old version serves on
            line = request_errors.first_line(error)
            _log.error("model %s version %d does not load: %s", self.name, version, line)
            self._set(VersionState(version, _STATE.END, grpc.StatusCode.UNKNOWN.value[0], line))
            return False
        self._loaded[version] = servable
        _log.info("model %s version %d is loaded, %d warm-up requests run", self.name, version, warmed)
        return True

    def _set(self, state: VersionState) -> None:
        with self._changed:
            self._states[state.version] = state
            self._changed.notify_all()

    def wait_for(self, version: int, state: int, timeout_s: float) -> bool:
        """Blocks until `version` is in `state`; False where that takes longer than `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: version in self._states and self._states[version].state == state, timeout_s
            )

    def latest(self) -> servable_lib.Servable | None:
        """The version that serves those who name none, None where none does."""
        return self._serving

    def get(self, name: str, version: int | None = None) -> servable_lib.Servable:
        """The servable a request asks for.

        Raises:
          RequestError: NOT_FOUND, another model or a version that does not serve.
        """
        servable = self._serving if version is None else self._loaded.get(version)
        if servable is not None and name == self.name:
            return servable
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise request_errors.not_found(f"Servable not found for request: {wanted}")

    def states(self, name: str, version: int | None = None) -> list[VersionState]:
        """What became of every version, or of one; latest first.

        Raises:
          RequestError: NOT_FOUND, another model or a version never seen.
        """
        with self._changed:
            known = sorted(self._states.values(), key=lambda state: -state.version)
        if name != self.name or not known:
            raise request_errors.not_found(f"Could not find any versions of model {name}")
        if version is None:
            return known
        asked = [state for state in known if state.version == version]
        if not asked:
            raise request_errors.not_found(f"Could not find version {version} of model {name}")
        return asked

"""Pusher's work: TFX's own, but that a version folder appears by rename."""

import hashlib
import json
import logging
import os
import time
from typing import Any

import tensorflow as tf
from tfx import types
from tfx.components.pusher import executor
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.types import standard_component_specs
from tfx.utils import io_utils
from tfx.utils import proto_utils

from longtail.components import runtime
from longtail.components.retrieval_evaluator import executor as evaluator
from longtail.models import errors
from longtail.models.export import signatures
from longtail.models.export import versions

MODEL_NAME_KEY = "model_name"
EVALUATION_KEY = "evaluation"

# Of a version folder: which model it is.
MARK_FILE = os.path.join("assets.extra", "pushed.json")

log = logging.getLogger("longtail")


class Executor(executor.Executor):
    """Keeps TFX's checks of blessings and its marks on the artifact; changes how files arrive."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed, else marks the artifact as not pushed.

        A version that holds the very same model already is taken for this push: one that was killed
        before the metadata store heard of it, for the most part. Finding out reads the model once.

        Raises:
          errors.UsageError: the destination is not a folder to be versioned by time, or its last version the last one.
          errors.WorkError: there is no SavedModel, or the destination cannot be written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            log.info("not pushed: the model is not blessed")
            return
        model_path = self.GetModelPath(input_dict)
        if not versions.is_complete(model_path):
            raise errors.WorkError(f"{model_path}: no SavedModel to push; train and export it anew")
        base = _base_directory(exec_properties)
        # The archived copy first: nothing is served that the metadata store could not give back.
        io_utils.copy_dir(model_path, pushed.uri)
        thresholds = _thresholds(input_dict)
        if thresholds is not None:
            io_utils.write_bytes_file(os.path.join(pushed.uri, signatures.THRESHOLDS_FILE), thresholds)
        destination = _push(model_path, base, thresholds)
        version = os.path.basename(destination)
        self._MarkPushed(pushed, pushed_destination=destination, pushed_version=version)
        log.info("pushed to %s", destination)


def _base_directory(exec_properties: dict[str, Any]) -> str:
    destination = pusher_pb2.PushDestination()
    proto_utils.json_to_proto(
        exec_properties[standard_component_specs.PUSH_DESTINATION_KEY] or "{}", destination
    )
    if not destination.filesystem.base_directory:
        raise errors.UsageError("push_destination must name a filesystem.base_directory")
    return runtime.folder(destination.filesystem.base_directory, exec_properties.get(MODEL_NAME_KEY, ""))


def _thresholds(input_dict: dict[str, list[types.Artifact]]) -> bytes | None:
    """The file that the evaluator wrote, None where there is none."""
    if not input_dict.get(EVALUATION_KEY):
        return None
    evaluation = artifact_utils.get_single_instance(input_dict[EVALUATION_KEY])
    path = os.path.join(evaluation.uri, evaluator.THRESHOLDS_FILE)
    return io_utils.read_bytes_file(path) if fileio.exists(path) else None


def _push(model_path: str, base: str, thresholds: bytes | None) -> str:
    """Copies the model beside its destination, then renames it into place. Returns its folder."""
    digest = _digest(model_path)
    # Named after the model, so that trying again clears away what a killed push of it has left.
    unfinished = os.path.join(base, f".pushing-{digest[:16]}")
    mark = json.dumps({"sha256": digest}).encode()
    try:
        io_utils.delete_dir(unfinished)
        pushed = _find(base, mark)
        if pushed is not None:
            return pushed
        fileio.makedirs(base)
        io_utils.copy_dir(model_path, unfinished)
        io_utils.write_bytes_file(os.path.join(unfinished, MARK_FILE), mark)
        if thresholds is not None:
            io_utils.write_bytes_file(os.path.join(unfinished, signatures.THRESHOLDS_FILE), thresholds)
        destination = os.path.join(base, str(_next_version(base)))
        fileio.rename(unfinished, destination)
    except (OSError, tf.errors.OpError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.WorkError(f"{base}: the model cannot be pushed here: {line}") from error
    finally:
        io_utils.delete_dir(unfinished)
    return destination


def _find(base: str, mark: bytes) -> str | None:
    """The folder of the latest complete version that bears `mark`, or None."""
    for folder in versions.find_complete(base).values():
        path = os.path.join(folder, MARK_FILE)
        if fileio.exists(path) and io_utils.read_bytes_file(path) == mark:
            return folder
    return None


def _digest(folder: str) -> str:
    """Hex digest of a folder's files and of their names."""
    walked = ((os.fsdecode(parent), map(os.fsdecode, names)) for parent, _, names in fileio.walk(folder))
    files = (os.path.join(parent, name) for parent, names in walked for name in names)
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256()
        with fileio.open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                content.update(chunk)
        digest.update(f"{path[len(folder) :].strip('/')}\0{content.hexdigest()}\n".encode())
    return digest.hexdigest()


def _next_version(base: str) -> int:
    """The unix time as with TFX's own, but always above every version there.

    A time is never given twice, even where a withdrawn version's folder was deleted.
    """
    last = max(versions.find(base), default=0)
    if last == versions.LARGEST:
        raise errors.UsageError(f"{base}: version {last} is the last number there can be; remove its folder")
    return max(int(time.time()), last + 1)

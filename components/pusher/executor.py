"""Pusher's work: TFX's own, but that a version folder appears by rename."""

import hashlib
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

from models import errors

_LOG = logging.getLogger("longtail")


class Executor(executor.Executor):
    """Keeps TFX's checks of blessings and its marks on the artifact; changes how files arrive."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed, else marks the artifact as not pushed.

        Raises:
            errors.UsageError: the destination is not a folder to be versioned by time.
            errors.WorkError: there is no SavedModel, or the destination cannot be written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(
            output_dict[standard_component_specs.PUSHED_MODEL_KEY]
        )
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            _LOG.info("not pushed: the model is not blessed")
            return
        model_path = self.GetModelPath(input_dict)
        if not tf.io.gfile.exists(os.path.join(model_path, tf.saved_model.SAVED_MODEL_FILENAME_PB)):
            raise errors.WorkError(f"{model_path}: no SavedModel to push; train and export it anew")
        base = _base_directory(exec_properties)
        # The archived copy first: nothing is served that the metadata store could not give back.
        io_utils.copy_dir(model_path, pushed.uri)
        version = _push(model_path, base)
        destination = os.path.join(base, str(version))
        self._MarkPushed(pushed, pushed_destination=destination, pushed_version=str(version))
        _LOG.info("pushed to %s", destination)


def _base_directory(exec_properties: dict[str, Any]) -> str:
    destination = pusher_pb2.PushDestination()
    proto_utils.json_to_proto(
        exec_properties[standard_component_specs.PUSH_DESTINATION_KEY] or "{}", destination
    )
    if not destination.filesystem.base_directory:
        raise errors.UsageError("push_destination must name a filesystem.base_directory")
    return destination.filesystem.base_directory


def _push(model_path: str, base: str) -> int:
    """Copies the model beside its destination, then renames it into place. Returns its version."""
    # Named after the model, so that trying again clears away what a killed push of it has left.
    digest = hashlib.sha256(model_path.encode()).hexdigest()[:16]
    unfinished = os.path.join(base, f".pushing-{digest}")
    try:
        io_utils.delete_dir(unfinished)
        fileio.makedirs(base)
        io_utils.copy_dir(model_path, unfinished)
        version = _next_version(base)
        fileio.rename(unfinished, os.path.join(base, str(version)))
    except (OSError, tf.errors.OpError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.WorkError(f"{base}: the model cannot be pushed here: {line}") from error
    finally:
        io_utils.delete_dir(unfinished)
    return version


def _next_version(base: str) -> int:
    """The unix time as with TFX's own, but always above every version there.

    A time is never given twice, even where a withdrawn version's folder was deleted.
    """
    names = (os.path.basename(name.rstrip("/")) for name in fileio.listdir(base))
    newest = max((int(name) for name in names if name.isdigit()), default=0)
    return max(int(time.time()), newest + 1)

"""Pusher's work: TFX's own, but that a version folder appears by rename."""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
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

import longtail
from longtail.components import runtime
from longtail.components.retrieval_evaluator import executor as evaluator
from longtail.models import errors
from longtail.models import files
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

        A version of the very same training, which is named by its data and settings, is taken for this push: one that
        was killed before the metadata store heard of it, or whose artifacts were deleted and made again. The artifact
        is then a copy of that version, since a training that is repeated need not come to the same bits. Its thresholds
        alone are the evaluator's of this run, there and, replaced by rename, in the version's folder. A model whose
        card names no training is known by its files.

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
        mark, thresholds = _mark(model_path), _thresholds(input_dict)
        with _told(base):
            destination = _find(base, mark)
        # The archived copy first: nothing is served that the metadata store could not give back.
        io_utils.copy_dir(destination or model_path, pushed.uri)
        if thresholds is not None:
            io_utils.write_bytes_file(os.path.join(pushed.uri, signatures.THRESHOLDS_FILE), thresholds)
        with _told(base):
            if destination is None:
                destination = _push(pushed.uri, base, mark)
            elif thresholds is not None:
                files.write(os.path.join(destination, signatures.THRESHOLDS_FILE), thresholds)
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


def _push(model_path: str, base: str, mark: bytes) -> str:
    """Copies the model beside its destination, then renames it into place. Returns its folder."""
    # Named after the model, so that trying again clears away what a killed push of it has left.
    unfinished = os.path.join(base, f".pushing-{hashlib.sha256(mark).hexdigest()[:16]}")
    try:
        io_utils.delete_dir(unfinished)
        fileio.makedirs(base)
        io_utils.copy_dir(model_path, unfinished)
        io_utils.write_bytes_file(os.path.join(unfinished, MARK_FILE), mark)
        destination = os.path.join(base, str(_next_version(base)))
        fileio.rename(unfinished, destination)
    finally:
        io_utils.delete_dir(unfinished)
    return destination


@contextlib.contextmanager
def _told(base: str) -> Iterator[None]:
    """Names the folder that cannot be pushed to."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.WorkError(f"{base}: the model cannot be pushed here: {line}") from error


def _mark(model_path: str) -> bytes:
    """Says which model it is: of which training, by which release, on which span; or, of which files."""
    path = os.path.join(model_path, signatures.MODEL_CARD_FILE)
    card = json.loads(io_utils.read_bytes_file(path)) if fileio.exists(path) else {}
    if "training" in card:
        named = {"training": card["training"], "span": card.get("span"), "longtail": longtail.__version__}
        return json.dumps(named).encode()
    return json.dumps({"sha256": _digest(model_path)}).encode()


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
    paths = (os.path.join(parent, name) for parent, names in walked for name in names)
    digest = hashlib.sha256()
    for path in sorted(paths):
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

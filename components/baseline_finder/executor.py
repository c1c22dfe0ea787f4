"""Copies the baselines of a run into artifacts, since no Resolver runs on Kubeflow v2."""

from typing import Any

import tensorflow as tf
from google.protobuf import message
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx.utils import path_utils

from components import versions
from components.drift_gate import registry as registry_lib
from models import errors

STATISTICS_KEY = "statistics"
SPAN_KEY = "span"
REGISTRY_KEY = "registry"
MODELS_KEY = "models"
PINNED_SPAN_KEY = "pinned_span"
PINNED_VERSION_KEY = "pinned_version"
BASELINE_STATISTICS_KEY = "baseline_statistics"
BASELINE_MODEL_KEY = "baseline_model"

# Custom properties of the outputs.
BASELINE_SPAN_PROPERTY = "baseline_span"
COLD_START_PROPERTY = "cold_start"
FOUND_PROPERTY = "found"
VERSION_PROPERTY = "version"

AUTO = "auto"
NONE = "none"
NO_SPAN = -1


class Executor(base_executor.BaseExecutor):
    """Finds and copies the statistics of the last accepted span and the last pushed model."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Copies both baselines; see `component.BaselineFinder`."""
        self._copy_statistics(
            artifact_utils.get_single_instance(input_dict[STATISTICS_KEY]),
            artifact_utils.get_single_instance(output_dict[BASELINE_STATISTICS_KEY]),
            exec_properties,
        )
        self._copy_model(
            artifact_utils.get_single_instance(output_dict[BASELINE_MODEL_KEY]), exec_properties
        )

    def _copy_statistics(
        self, current: types.Artifact, baseline: types.Artifact, properties: dict[str, Any]
    ) -> None:
        """Copies the accepted span's statistics, or at a cold start those of the span itself."""
        registry = properties[REGISTRY_KEY]
        pinned = _number(properties.get(PINNED_SPAN_KEY, AUTO).partition("@")[0], PINNED_SPAN_KEY)
        splits = artifact_utils.decode_split_names(current.split_names)
        if pinned == AUTO:
            mark = registry_lib.fingerprint(current.uri, splits)
            span = registry_lib.last_accepted(registry, int(properties[SPAN_KEY]), mark)
        else:
            span = None if pinned == NONE else pinned
        if span is None:
            folder = current.uri
        else:
            folder = registry_lib.statistics_folder(registry, span)
            _check_readable(folder, splits, registry, span)
        registry_lib.copy_statistics(folder, baseline.uri, splits)
        baseline.split_names = artifact_utils.encode_split_names(splits)
        baseline.span = int(properties[SPAN_KEY]) if span is None else span
        baseline.set_int_custom_property(COLD_START_PROPERTY, int(span is None))
        baseline.set_int_custom_property(BASELINE_SPAN_PROPERTY, NO_SPAN if span is None else span)

    def _copy_model(self, baseline: types.Artifact, properties: dict[str, Any]) -> None:
        """Copies the model, so that later clean-ups of the model folder do not reach this run."""
        models = properties[MODELS_KEY]
        pinned = _number(properties.get(PINNED_VERSION_KEY, AUTO), PINNED_VERSION_KEY)
        complete = versions.find_complete(models)
        last = next(iter(complete), None)
        if pinned == AUTO:
            version = last
        else:
            version = None if pinned == NONE else pinned
        baseline.set_int_custom_property(FOUND_PROPERTY, int(version is not None))
        baseline.set_int_custom_property(VERSION_PROPERTY, NO_SPAN if version is None else version)
        if version is None:
            fileio.makedirs(baseline.uri)
            return
        if version not in complete:
            raise errors.WorkError(
                f"there is no complete model version {version} in {models}; the last one is "
                f"{'none' if last is None else last}; run again to be compared with what is there now"
            )
        io_utils.copy_dir(complete[version], path_utils.serving_model_dir(baseline.uri))


def _check_readable(folder: str, splits: list[str], registry: str, span: int) -> None:
    """Raises WorkError where a split's accepted statistics are missing or are no statistics."""
    for split in splits:
        path = registry_lib.statistics_path(folder, split)
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        try:
            with tf.io.gfile.GFile(path, "rb") as file:
                statistics.ParseFromString(file.read())
        except (tf.errors.OpError, message.DecodeError) as error:
            raise registry_lib.unreadable(path, registry, span) from error
        if not statistics.datasets:
            raise registry_lib.unreadable(path, registry, span)


def _number(text: str, key: str) -> int | str:
    """Returns what was pinned: AUTO, NONE or a number.

    Raises:
        errors.UsageError: it is none of these.
    """
    if text in (AUTO, NONE):
        return text
    if not text.isdecimal():
        raise errors.UsageError(f"{key} must be '{AUTO}', '{NONE}' or a number, not {text!r}")
    return int(text)

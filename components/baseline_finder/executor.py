"""Copies the baselines of a run into artifacts, since no Resolver runs on Kubeflow v2."""

import os
from collections.abc import Callable
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

from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components import runtime
from longtail.components.data import samples
from longtail.models import errors
from longtail.models.export import starts
from longtail.models.export import versions

STATISTICS_KEY = "statistics"
SAMPLE_KEY = "sample"
SPAN_KEY = "span"
REGISTRY_KEY = "registry"
MODELS_KEY = "models"
PINNED_SPAN_KEY = "pinned_span"
PINNED_VERSION_KEY = "pinned_version"
MODEL_NAME_KEY = "model_name"
BASELINE_STATISTICS_KEY = "baseline_statistics"
BASELINE_SAMPLE_KEY = "baseline_sample"
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
    """Finds and copies what was kept of the last accepted span, and the last pushed model."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Copies the baselines; see `component.BaselineFinder`."""
        model_name = exec_properties.get(MODEL_NAME_KEY, "")
        registry = runtime.folder(exec_properties[REGISTRY_KEY], model_name)
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        current = artifact_utils.get_single_instance(input_dict[SAMPLE_KEY])
        data = current.get_string_custom_property(samples.FINGERPRINT_PROPERTY)
        mark = data or registry_lib.fingerprint(statistics.uri, splits)
        span = _find_span(registry, mark, exec_properties)
        sources = (statistics.uri, current.uri)
        if span is not None:
            folder = registry_lib.accepted_folder(registry, span)
            _check_readable(folder, splits, registry, span)
            sources = (folder, folder)
        baseline = artifact_utils.get_single_instance(output_dict[BASELINE_STATISTICS_KEY])
        registry_lib.copy_statistics(sources[0], baseline.uri, splits)
        baseline.split_names = artifact_utils.encode_split_names(splits)
        baseline.span = int(exec_properties[SPAN_KEY]) if span is None else span
        sample = artifact_utils.get_single_instance(output_dict[BASELINE_SAMPLE_KEY])
        samples.copy(sources[1], sample.uri)
        for artifact in (baseline, sample):
            artifact.set_int_custom_property(COLD_START_PROPERTY, int(span is None))
            artifact.set_int_custom_property(BASELINE_SPAN_PROPERTY, NO_SPAN if span is None else span)
        models = runtime.folder(exec_properties[MODELS_KEY], model_name)
        pinned = _number(exec_properties.get(PINNED_VERSION_KEY, AUTO), PINNED_VERSION_KEY)
        model = artifact_utils.get_single_instance(output_dict[BASELINE_MODEL_KEY])
        self._copy_model(model, models, pinned, ledger.read(registry).withdrawals)

    def _copy_model(
        self, baseline: types.Artifact, models: str, pinned: int | str, withdrawn: ledger.Withdrawals
    ) -> None:
        """Copies the model, without names withdrawn since: later clean-ups of its folder do not reach this run."""
        complete = versions.find_complete(models)
        last = next(iter(complete), None)
        version = pinned if isinstance(pinned, int) else (last if pinned == AUTO else None)
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
        if withdrawn.digests:
            starts.forget(path_utils.serving_model_dir(baseline.uri), withdrawn)


def _find_span(registry: str, mark: str, properties: dict[str, Any]) -> int | None:
    """Returns the accepted span to compare with, None at a cold start; `mark` is the data's or the statistics'."""
    pinned = _number(properties.get(PINNED_SPAN_KEY, AUTO).partition("@")[0], PINNED_SPAN_KEY)
    if isinstance(pinned, int):
        return pinned
    return None if pinned == NONE else registry_lib.last_accepted(registry, int(properties[SPAN_KEY]), mark)


def _check_readable(folder: str, splits: list[str], registry: str, span: int) -> None:
    """Raises WorkError where accepted statistics, sample or table are missing or damaged."""
    checks: list[tuple[str, Callable[[str], object]]] = [
        *((registry_lib.statistics_path(folder, split), _check_statistics) for split in splits),
        (os.path.join(folder, samples.SAMPLE_FILE), lambda _: _check_images(folder)),
        (os.path.join(folder, samples.TABLE_FILE), lambda _: samples.read_table(folder)),
    ]
    for path, check in checks:
        try:
            check(path)
        except (message.DecodeError, *samples.UNREADABLE) as error:
            raise registry_lib.unreadable(path, registry, span) from error


def _check_statistics(path: str) -> None:
    """Raises where there are no statistics at `path`."""
    with tf.io.gfile.GFile(path, "rb") as file:
        if not statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read()).datasets:
            raise ValueError(path)


def _check_images(folder: str) -> None:
    """Raises where there is no sample in `folder`; an accepted span has an image at least."""
    if not len(samples.read_images(folder)[0]):
        raise ValueError(folder)


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

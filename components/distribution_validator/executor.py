"""TFX's own comparison, with calibrated thresholds, for Kubeflow's form of its configuration and for odd images."""

import json
import os
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx import types
from tfx.components.distribution_validator import executor as stock
from tfx.proto import distribution_validator_pb2
from tfx.proto.orchestration import execution_result_pb2
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs as keys

from longtail.components import drift_report
from longtail.components import registry
from longtail.components.baseline_finder import executor as finder
from longtail.components.data import samples
from longtail.components.data import tables
from longtail.components.distribution_validator import alignment
from longtail.components.distribution_validator import comparators
from longtail.components.drift import calibration
from longtail.components.drift import overlap
from longtail.components.drift import permutation

SAMPLE_KEY = "sample"
BASELINE_SAMPLE_KEY = "baseline_sample"
THRESHOLDS_KEY = "thresholds"
REPORT_KEY = "report"


class Executor(stock.Executor):
    """Runs the stock executor on statistics whose histograms have common buckets."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> execution_result_pb2.ExecutorOutput:
        """Calibrates what has no threshold, and compares: statistics as TFX does, the tables beside it."""
        current = artifact_utils.get_single_instance(input_dict[keys.STATISTICS_KEY])
        baseline = artifact_utils.get_single_instance(input_dict[keys.BASELINE_STATISTICS_KEY])
        anomalies = artifact_utils.get_single_instance(output_dict[keys.ANOMALIES_KEY])
        new, old = (
            samples.read_table(artifact_utils.get_single_uri(input_dict[key]))
            for key in (SAMPLE_KEY, BASELINE_SAMPLE_KEY)
        )
        properties = dict(exec_properties)
        config = _calibrated(properties[keys.DISTRIBUTION_VALIDATOR_CONFIG_KEY], new, old)
        properties[keys.DISTRIBUTION_VALIDATOR_CONFIG_KEY] = config
        rows: list[dict[str, Any]] = []
        notes: list[str] = []
        if not baseline.get_int_custom_property(finder.COLD_START_PROPERTY):
            same = current.span == baseline.get_int_custom_property(finder.BASELINE_SPAN_PROPERTY)
            rows, note = overlap.rows(new, old, json.loads(properties[THRESHOLDS_KEY]), same)
            notes = [line for line in (note, calibration.note(new, old)) if line]
        drift_report.write(artifact_utils.get_single_uri(output_dict[REPORT_KEY]), rows, "; ".join(notes))
        scratch = f"{anomalies.uri.rstrip('/')}.aligned"
        try:
            aligned = _align(current, baseline, scratch)
            return super().Do(aligned, output_dict, properties)
        finally:
            if tf.io.gfile.exists(scratch):
                tf.io.gfile.rmtree(scratch)


def _calibrated(
    config: distribution_validator_pb2.DistributionValidatorConfig | str,
    current: tables.Table,
    baseline: tables.Table,
) -> distribution_validator_pb2.DistributionValidatorConfig:
    """Returns the configuration with a threshold for every feature; on Kubeflow it comes as JSON text."""
    result = distribution_validator_pb2.DistributionValidatorConfig()
    if isinstance(config, str):
        json_format.Parse(config, result)
    else:
        result.CopyFrom(config)
    thresholds = calibration.thresholds(current, baseline)
    for feature in result.default_slice_config.feature:
        (name,) = feature.path.step
        measure = comparators.measure(feature.distribution_comparator, name)
        if not measure.HasField("threshold"):
            measure.threshold = thresholds.get(name, permutation.CEILING)
    return result


def _align(current: types.Artifact, baseline: types.Artifact, scratch: str) -> dict[str, list[types.Artifact]]:
    """Writes aligned copies of the splits that both sides have, and returns them as inputs."""
    theirs = artifact_utils.decode_split_names(baseline.split_names)
    splits = [s for s in artifact_utils.decode_split_names(current.split_names) if s in theirs]
    copies = {
        keys.STATISTICS_KEY: _copy(current, splits, os.path.join(scratch, "current")),
        keys.BASELINE_STATISTICS_KEY: _copy(baseline, splits, os.path.join(scratch, "baseline")),
    }
    for split in splits:
        pair = [_load(side.uri, split) for side in (current, baseline)]
        if all(side.datasets for side in pair):
            alignment.align(pair[0].datasets[0], pair[1].datasets[0])
        for side, statistics in zip(copies.values(), pair, strict=True):
            _save(side[0].uri, split, statistics)
    return copies


def _copy(source: types.Artifact, splits: list[str], uri: str) -> list[types.Artifact]:
    """Returns an artifact like `source` at another place."""
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri = uri
    artifact.span = source.span
    artifact.split_names = artifact_utils.encode_split_names(splits)
    return [artifact]


def _load(folder: str, split: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Reads one split's statistics."""
    with tf.io.gfile.GFile(registry.statistics_path(folder, split), "rb") as file:
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())


def _save(folder: str, split: str, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
    """Writes one split's statistics."""
    path = registry.statistics_path(folder, split)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(statistics.SerializeToString())

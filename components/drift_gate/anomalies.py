"""What TFX's validators found, read from their anomalies as plain rows."""

import os
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2

from longtail.components.data import features
from longtail.components.drift import rows as rows_lib

_ANOMALIES_FILE = "SchemaDiff.pb"

# What TFDV calls its measures, and what a reader does.
_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon",
    anomalies_pb2.DriftSkewInfo.Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "absolute difference",
}

def distances(uri: str) -> list[dict[str, Any]]:
    """Reads a DistributionValidator's output.

    Args:
      uri: the artifact's folder, `SplitPair-<current>_<baseline>/SchemaDiff.pb`.

    Returns:
      A row, as `longtail.components.drift.rows.row` makes it, for each feature and split, the farthest
      beyond its threshold first.
    """
    rows = []
    for split, anomalies in _read(uri, "SplitPair-"):
        drifted = {_name(info.path) or key for key, info in anomalies.anomaly_info.items()}
        compared = set()
        for info in anomalies.drift_skew_info:
            compared.add(_name(info.path))
            for measured in info.drift_measurements:
                rows.append(_distance(_name(info.path), split.split("_")[0], measured, drifted))
        for feature in sorted(drifted - compared):
            rows.append(rows_lib.row(rows_lib.DRIFT, feature, None, None, None, split.split("_")[0]))
    return rows_lib.ordered(rows)


def violations(uri: str) -> list[dict[str, str]]:
    """Reads an ExampleValidator's output.

    Args:
      uri: the artifact's folder, `Split-<name>/SchemaDiff.pb`.

    Returns:
      A row for each breach of the schema: `feature` (empty for the data set as a whole), `split`,
      `problem` and `detail`. An empty train split is one; an empty eval split is not.
    """
    rows = []
    for split, anomalies in _read(uri, "Split-"):
        for key, info in sorted(anomalies.anomaly_info.items()):
            rows.append(_violation(_name(info.path) or key, split, info))
        if anomalies.HasField("dataset_anomaly_info"):
            rows.append(_violation("", split, anomalies.dataset_anomaly_info))
        if anomalies.data_missing and split == features.TRAIN_SPLIT:
            detail = f"the split {split} is empty"
            rows.append({"feature": "", "split": split, "problem": "no examples", "detail": detail})
    return rows


def _distance(feature: str, split: str, measured: Any, drifted: set[str]) -> dict[str, Any]:
    """Returns one row of `distances`."""
    measure = _MEASURES.get(measured.type, "distance")
    made = rows_lib.row(rows_lib.DRIFT, feature, measure, measured.value, measured.threshold, split)
    return {**made, "verdict": rows_lib.DRIFTED if feature in drifted else rows_lib.OK}


def _violation(feature: str, split: str, info: anomalies_pb2.AnomalyInfo) -> dict[str, str]:
    """Returns one row of `violations`."""
    return {
        "feature": feature,
        "split": split,
        "problem": "; ".join(r.short_description for r in info.reason) or info.short_description,
        "detail": "; ".join(reason.description for reason in info.reason) or info.description,
    }


def _read(uri: str, prefix: str) -> list[tuple[str, anomalies_pb2.Anomalies]]:
    """Reads every split of an anomalies artifact, in the order of their names."""
    result = []
    for name in sorted(name.rstrip("/") for name in tf.io.gfile.listdir(uri)):
        if name.startswith(prefix):
            with tf.io.gfile.GFile(os.path.join(uri, name, _ANOMALIES_FILE), "rb") as file:
                anomalies = anomalies_pb2.Anomalies.FromString(file.read())
            result.append((name[len(prefix) :], anomalies))
    return result


def _name(path: Any) -> str:
    """Returns a feature's name."""
    return ".".join(path.step)

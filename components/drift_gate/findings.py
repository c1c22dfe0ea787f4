"""What the validators found, as plain rows, for the report and for the one line of an error."""

import json
import math
import os
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2

from longtail.components.data import features
from longtail.components.drift_gate import registry

REPORT_FILE = "drift.json"
_ANOMALIES_FILE = "SchemaDiff.pb"

# Kinds of rows: a feature's distribution, what the last model sees, what serving saw, and the data set as a whole.
DRIFT = "drift"
EMBEDDING = "embedding"
SKEW = "skew"
DATA = "data"

# What TFDV calls its measures, and what a reader does.
_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "L-infinity",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon",
    anomalies_pb2.DriftSkewInfo.Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "absolute difference",
}

OK = "ok"
DRIFTED = "drifted"
NOT_COMPARED = "not compared"


def distances(uri: str) -> list[dict[str, Any]]:
    """Reads a DistributionValidator's output.

    Args:
        uri: the artifact's folder, `SplitPair-<current>_<baseline>/SchemaDiff.pb`.

    Returns:
        A row, as `row` makes it, for each feature and split. The farthest beyond its threshold first.
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
            rows.append(row(DRIFT, feature, None, None, None, split.split("_")[0]))
    return ordered(rows)


def row(
    kind: str,
    feature: str,
    measure: str | None,
    distance: float | None,
    threshold: float | None,
    split: str = features.TRAIN_SPLIT,
) -> dict[str, Any]:
    """A row of a report: its `verdict` is `drifted` above the threshold, `not compared` without a distance, or `ok`."""
    if distance is None or threshold is None or not math.isfinite(distance):
        distance, threshold, verdict = None, None, NOT_COMPARED
    else:
        verdict = DRIFTED if distance > threshold else OK
    return {
        "kind": kind,
        "feature": feature,
        "split": split,
        "measure": measure,
        "distance": distance,
        "threshold": threshold,
        "verdict": verdict,
    }


def ordered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, the farthest beyond its threshold first."""
    return sorted(rows, key=lambda one: (-_excess(one), one["kind"], one["feature"], one["split"]))


def write_report(uri: str, rows: list[dict[str, Any]], note: str = "") -> None:
    """Writes `drift.json` of a DriftReport by rename; `note` says in a line why there are no rows, or not all."""
    registry.write_json(os.path.join(uri, REPORT_FILE), {"features": rows, "note": note})


def read_report(uri: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the rows and the note of a DriftReport."""
    with tf.io.gfile.GFile(os.path.join(uri, REPORT_FILE)) as file:
        content = json.loads(file.read())
    return content["features"], content["note"]


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
    made = row(DRIFT, feature, measure, measured.value, measured.threshold, split)
    return {**made, "verdict": DRIFTED if feature in drifted else OK}


def _excess(one: dict[str, Any]) -> float:
    """Returns how far a row is beyond its threshold; what could not be compared comes first."""
    if one["distance"] is None:
        return float("inf")
    if one["threshold"] == 0:
        return float("inf") if one["distance"] > 0 else 0.0
    return float(one["distance"] / one["threshold"])


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

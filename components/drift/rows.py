"""Rows of a drift report: a distance, its threshold and the verdict; and which of them is the worst."""

import math
from typing import Any

from longtail.components.data import features

# Kinds of rows: a feature's distribution, what the last model sees, what serving saw, and the data set as a whole.
DRIFT = "drift"
EMBEDDING = "embedding"
SKEW = "skew"
DATA = "data"

OK = "ok"
DRIFTED = "drifted"
NOT_COMPARED = "not compared"


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


def _excess(one: dict[str, Any]) -> float:
    """Returns how far a row is beyond its threshold; what could not be compared comes first."""
    if one["distance"] is None:
        return float("inf")
    if one["threshold"] == 0:
        return float("inf") if one["distance"] > 0 else 0.0
    return float(one["distance"] / one["threshold"])

"""How wide classes are in feature space: the angles whose spread separates head from tail."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np


def class_angles(features: np.ndarray, labels: Sequence | np.ndarray) -> Mapping[object, np.ndarray]:
    """Angles between features and the mean direction of their class.

    Args:
      features: float [N, d], of any length but zero; normalised here, in float64.
      labels: [N] class labels.

    Returns:
      label -> float64 [images of the class], radians; pi / 2 for a feature of length zero, and
      where a class's directions cancel out.

    Raises:
      ValueError: shapes do not fit.

    Example: two directions at right angles; their mean is 45 degrees from both.

    >>> {label: angles / np.pi for label, angles in angular.class_angles(np.eye(2), ["a", "a"]).items()}
    {'a': array([0.25, 0.25])}
    """
    features, classes = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or classes.shape != features.shape[:1]:
        raise ValueError(
            "`features` must be [N, d] and `labels` [N]. "
            f"Received: shapes {features.shape} and {classes.shape}"
        )
    order = np.argsort(classes, kind="stable")
    names, starts = np.unique(classes[order], return_index=True)
    angles = {}
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        directions = _unit(features[rows].astype(np.float64))
        centre = _unit(directions.mean(axis=0, keepdims=True))[0]
        angles[name] = np.arccos(np.clip(directions @ centre, -1.0, 1.0))
    return angles


def angular_spread(features: np.ndarray, labels: Sequence | np.ndarray, head: Collection) -> dict:
    """Mean angle and angular variance of head and of tail classes.

    Each class counts once, however many images it has. A class with fewer than two images has no
    variance and is left out of both figures.

    Args:
      features: float [N, d].
      labels: [N] class labels.
      head: the labels of the head classes; every other class is tail.

    Returns:
      {"head": {...}, "tail": {...}}, each with `mean` (radians), `variance` (radians squared,
      over the images of a class, not corrected for its size) and `classes` (how many were
      averaged); None for figures of no class.

    Raises:
      ValueError: shapes do not fit.

    Example: class "a" has two images 45 degrees from its mean, class "b" a single one, which has no spread.

    >>> spread = angular.angular_spread([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], ["a", "a", "b"], head=["a"])
    >>> spread["head"]["mean"] / np.pi, spread["tail"]["mean"]
    (0.25, None)
    """
    head = set(head)
    angles = {
        name: angle for name, angle in class_angles(features, labels).items() if len(angle) > 1
    }
    return {
        "head": _average([angle for name, angle in angles.items() if name in head]),
        "tail": _average([angle for name, angle in angles.items() if name not in head]),
    }


def _average(angles: Sequence[np.ndarray]) -> dict:
    return {
        "mean": float(np.mean([angle.mean() for angle in angles])) if angles else None,
        "variance": float(np.mean([angle.var() for angle in angles])) if angles else None,
        "classes": len(angles),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float64).tiny)

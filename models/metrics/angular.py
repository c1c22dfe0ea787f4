"""How wide classes are in feature space: the angles whose spread separates head from tail."""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np


def class_angles(
    features: np.ndarray, labels: Sequence | np.ndarray, leave_one_out: bool = False
) -> Mapping[object, np.ndarray]:
    """Angles between features and the mean direction of their class.

    Args:
      features: float [N, d], of any length but zero; normalised here, in float64.
      labels: [N] class labels.
      leave_one_out: the mean is that of the class's other features, which the feature itself has not pulled nearer.

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
        sums = directions.sum(axis=0, keepdims=True)
        centres = _unit(sums - directions if leave_one_out else sums)
        angles[name] = np.arccos(np.clip((directions * centres).sum(axis=1), -1.0, 1.0))
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


def equal_spread(
    features: np.ndarray,
    labels: Sequence | np.ndarray,
    head: Collection,
    images: int,
    draws: int = 10,
    seed: int = 0,
) -> dict:
    """As `angular_spread`, with equally many images of every class, each judged by a centre of the others.

    A variance around a centre that was fitted to the same few images is too small, the more so the fewer they are, and
    head and tail differ in just that. Here each class is cut to `images` of its own, at random and `draws` times, and
    an angle is one to the mean direction of the class's other images. Classes with fewer images are left out, and all
    of them where `images` is below 3: two leave-one-out angles are always equal.

    Args:
      features: float [N, d].
      labels: [N] class labels.
      head: the labels of the head classes; every other class is tail.
      images: S, how many images of a class are compared.
      draws: how often they are drawn.
      seed: of the draws.

    Raises:
      ValueError: shapes do not fit.

    Example: twenty images and four of the same spread; the naive figures make the four half as wide.

    >>> spread = np.random.default_rng(0).normal(0.0, 0.05, (2400, 32)) + np.eye(32)[0]
    >>> labels = np.repeat(np.arange(200), [20] * 100 + [4] * 100)
    >>> head = range(100)
    >>> naive, equal = angular.angular_spread(spread, labels, head), angular.equal_spread(spread, labels, head, 4)
    >>> [round(found["tail"]["variance"] / found["head"]["variance"], 2) for found in (naive, equal)]
    [0.58, 1.07]
    """
    features, classes, head = np.asarray(features), np.asarray(labels), set(head)
    names, counts = np.unique(classes, return_counts=True)
    kept = np.flatnonzero(np.isin(classes, names[counts >= images])) if images > 2 else np.zeros(0, int)
    found: dict[bool, list[np.ndarray]] = {True: [], False: []}
    random = np.random.default_rng(seed)
    for _ in range(draws if len(kept) else 0):
        shuffled = random.permutation(kept)
        shuffled = shuffled[np.argsort(classes[shuffled], kind="stable")]
        starts = np.unique(classes[shuffled], return_index=True)[1]
        taken = shuffled[(starts[:, None] + np.arange(images)).ravel()]
        for name, angles in class_angles(features[taken], classes[taken], leave_one_out=True).items():
            found[name in head].append(angles)
    spread = {"head": _average(found[True]), "tail": _average(found[False])}
    return {kind: {**figures, "classes": figures["classes"] // draws} for kind, figures in spread.items()}


def _average(angles: Sequence[np.ndarray]) -> dict:
    return {
        "mean": float(np.mean([angle.mean() for angle in angles])) if angles else None,
        "variance": float(np.mean([angle.var() for angle in angles])) if angles else None,
        "classes": len(angles),
    }


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, np.finfo(np.float64).tiny)

"""What feature transfer knows of the rich features: class centres (Eq. 5), directions Q, and who lies far out."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from longtail.models import errors
from longtail.models import head_tail

_ROWS = 65536  # converted to float64 at once
_MOST_MIRRORED = 1000  # classes whose mirror images are looked at


class Directions(NamedTuple):
    """The principal components of the head classes' deviations from their centres.

    Attributes:
      basis: float64 [n, r], Q: orthonormal columns, the widest direction first.
      variances: float64 [n], of all directions, descending.

    Example:

    >>> statistics.Directions(np.eye(2)[:, :1], np.array([4.0, 0.1])).basis.shape
    (2, 1)
    """

    basis: np.ndarray
    variances: np.ndarray


def check_classes(counts: npt.ArrayLike, head_threshold: int) -> None:
    """Refuses classes of which none is head, or none tail: there is nobody to transfer from, or to.

    Args:
      counts: int [C], K_i: distinct images of each class.
      head_threshold: T; classes with K_i > T are head classes, the paper's regular ones.

    Raises:
      errors.UsageError: there is no head class, or no tail class.

    Example:

    >>> statistics.check_classes([30, 5], head_threshold=20)
    """
    is_head = head_tail.is_head(counts, head_threshold)
    if is_head.all() or not is_head.any():
        missing, way = ("tail", "raise") if is_head.all() else ("head", "lower")
        raise errors.UsageError(
            f"leap.head_threshold: {head_threshold} leaves feature transfer no {missing} class, since identities are "
            f"trained on {np.min(counts)} to {np.max(counts)} images; {way} it, or set transfer.variant to none"
        )


def centres(
    rich: np.ndarray,
    labels: np.ndarray,
    classes: int,
    mirrored: np.ndarray | None = None,
    yaw: np.ndarray | None = None,
    most_yaw: float = np.inf,
) -> np.ndarray:
    """c_i (Eq. 5): the mean of a class's rich features, and of those of its mirror images.

    Args:
      rich: float [N, n], g of each image.
      labels: int [N], 0..C-1.
      classes: C.
      mirrored: float [N, n], g of each mirrored image; None where a mirror image is of another identity.
      yaw: float [N], how far each face is turned away, in degrees; NaN, or None for all, where that is not known, as if
        it were not turned.
      most_yaw: tau; images turned further are left out, but where a class has no others.

    Returns:
      float64 [C, n]; zeros of a class without images.

    Example: the first class is of its first image alone, which is turned less.

    >>> rich, yaw = np.array([[1.0], [9.0], [4.0]]), np.array([0.0, 80.0, 70.0])
    >>> statistics.centres(rich, np.array([0, 0, 1]), 2, yaw=yaw, most_yaw=30).ravel()
    array([1., 4.])
    """
    is_kept = np.ones(len(labels), bool)
    if yaw is not None:
        is_frontal = ~(np.abs(yaw) > most_yaw)
        is_kept = is_frontal | (np.bincount(labels[is_frontal], minlength=classes) == 0)[labels]
    sums = sum(_class_sums(one[is_kept], labels[is_kept], classes) for one in (rich, mirrored) if one is not None)
    counts = np.bincount(labels[is_kept], minlength=classes) * (1 if mirrored is None else 2)
    return sums / np.maximum(counts, 1)[:, np.newaxis]


def _class_sums(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """float64 [C, n] of [N, n]: never all of it in float64."""
    sums = np.zeros([classes, values.shape[1]])
    for start in range(0, len(values), _ROWS):
        np.add.at(sums, labels[start : start + _ROWS], values[start : start + _ROWS].astype(np.float64))
    return sums


def covariance(rich: np.ndarray, labels: np.ndarray, class_centres: np.ndarray, of: np.ndarray) -> np.ndarray:
    """V = mean of (g - c)(g - c)': how images of the classes `of` (bool [C]) lie around their centres, float64 [n, n].

    Example:

    >>> rich = np.array([[3.0, 0.0], [-1.0, 0.0]])
    >>> statistics.covariance(rich, np.array([0, 0]), np.array([[1.0, 0.0]]), of=np.array([True]))
    array([[4., 0.],
           [0., 0.]])
    """
    rows = np.flatnonzero(of[labels])
    total = np.zeros([rich.shape[1]] * 2)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        apart = rich[part].astype(np.float64) - class_centres[labels[part]]
        total += apart.T @ apart
    return total / max(len(rows), 1)


def directions(covariances: np.ndarray, energy: float) -> Directions:
    """The fewest principal components of float64 [n, n] that keep a share of its variance.

    Example: of the variances 8, 1 and 1 the first alone is 80 %.

    >>> statistics.directions(np.diag([1.0, 8.0, 1.0]), energy=0.8).basis.T
    array([[0., 1., 0.]])
    """
    variances, vectors = np.linalg.eigh(covariances)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    wanted = energy * variances.sum() * (1.0 - 1e-12)
    rank = int(np.searchsorted(np.cumsum(variances), wanted)) + 1
    return Directions(vectors[:, :rank], variances)


def distances(rich: np.ndarray, labels: np.ndarray, class_centres: np.ndarray) -> np.ndarray:
    """How far each image lies from its class's centre: float64 [N].

    Example:

    >>> statistics.distances(np.array([[3.0, 4.0]]), np.array([1]), np.zeros([2, 2]))
    array([5.])
    """
    found = np.empty(len(labels))
    for start in range(0, len(labels), _ROWS):
        part = slice(start, start + _ROWS)
        found[part] = np.linalg.norm(rich[part].astype(np.float64) - class_centres[labels[part]], axis=1)
    return found


def far_out(rich: np.ndarray, labels: np.ndarray, class_centres: np.ndarray) -> np.ndarray:
    """Whether an image lies further from its class's centre than its class does on average: bool [N], the list h.

    Example:

    >>> rich = np.array([[1.0], [1.0], [4.0]])
    >>> statistics.far_out(rich, np.array([0, 0, 0]), np.zeros([1, 1]))
    array([False, False,  True])
    """
    apart = distances(rich, labels, class_centres)
    classes = len(class_centres)
    mean = np.bincount(labels, apart, classes) / np.maximum(np.bincount(labels, minlength=classes), 1)
    return apart > mean[labels]


def mirrors_are_others(rich_centres: np.ndarray, mirrored_centres: np.ndarray) -> float:
    """The share of classes whose mirror images lie nearer to another class's centre than to their own.

    Of more than 1000 classes, 1000 that lie evenly among them are asked about: O(1000 C n).

    Example: the two classes are each other's mirror images.

    >>> statistics.mirrors_are_others(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]]))
    1.0
    """
    classes = len(rich_centres)
    asked = np.unique(np.linspace(0, classes - 1, min(classes, _MOST_MIRRORED)).astype(int))
    squares, wrong = np.square(rich_centres).sum(axis=1), 0
    for label in asked:
        wrong += int(np.argmin(squares - 2.0 * rich_centres @ mirrored_centres[label]) != label)
    return wrong / len(asked)

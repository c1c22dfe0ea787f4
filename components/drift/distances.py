"""Two samples' embeddings compared: as near to the centres of identities, and lying where the others lay?"""

from typing import Any

import numpy as np
from scipy.spatial import distance

from longtail.components.data import features
from longtail.components.drift import permutation
from longtail.components.drift import rows as rows_lib
from longtail.models import errors

# The least energy coefficient (0 to 1) that is called drift.
FLOORS = {features.EMBEDDING_ANGLE: 0.008, features.EMBEDDING_OWN: 0.008, features.EMBEDDING_SHAPE: 0.005}
_SEED = 0


def compare(
    new: np.ndarray, new_identity: np.ndarray, old: np.ndarray, old_identity: np.ndarray, thresholds: dict[str, float]
) -> list[dict[str, Any]]:
    """Tests whether two samples are of one source, by the energy coefficient of their angles and of themselves.

    The angles are those to the nearest centre of an identity of the accepted span, and to the image's own. Where most
    of the new images are of identities that the accepted span has too, only these are compared, with centres of one
    half of the accepted images for the other half: no image makes the centre it is held against. Else there is no own
    centre, and no image is held against its own identity.

    Args:
      new: float32 [N, d], of the new span, l2-normalised.
      new_identity: [N].
      old: float32 [M, d], of the accepted span.
      old_identity: [M].
      thresholds: explicit ones, by feature; the others are beyond what chance does, and beyond `FLOORS`.

    Returns:
      Rows of kind "embedding", of `features.EMBEDDING`. None for a feature of which so few identities could change
      sides that chance cannot be measured, unless it has an explicit threshold.

    Raises:
      errors.WorkError: an embedding is not finite.
    """
    for side, vectors in (("the span", new), ("the accepted span", old)):
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        if bad:
            raise errors.WorkError(
                f"embedding drift: {bad} of {len(vectors)} embeddings of {side} by the last blessed model are not "
                f"finite; take that model back, or train it anew"
            )
    names, count = np.unique(old_identity, return_counts=True)
    shared = np.intersect1d(names[count >= 2], new_identity)
    known, kept = np.isin(new_identity, shared), np.isin(old_identity, shared)
    if known.mean() >= 0.5 and len(shared) > 1:
        angles = _to_known(new[known], new_identity[known], old[kept], old_identity[kept])
        compared = _sides(new_identity[known], old_identity[kept])
    else:
        centres, _ = _centres(old, old_identity)
        nearest = [_nearest(side, of, centres, names) for side, of in ((new, new_identity), (old, old_identity))]
        angles = {features.EMBEDDING_ANGLE: np.concatenate(nearest)}
        compared = _sides(new_identity, old_identity)
    rows = [_row(feature, values[:, np.newaxis], *compared, thresholds) for feature, values in angles.items()]
    everything = (np.concatenate([new, old]), *_sides(new_identity, old_identity))
    return [one for one in (*rows, _row(features.EMBEDDING_SHAPE, *everything, thresholds)) if one]


def energies(points: np.ndarray, group: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Energy coefficient of the two sides of every deal.

    (2 E|X-Y| - E|X-X'| - E|Y-Y'|) / 2 E|X-Y|: 0 where both sides are of one distribution, at most 1.

    Args:
      points: float [N, d].
      group: int [N], as `permutation.deal` gives them.
      sides: bool [deals, groups].

    Returns:
      float [deals].
    """
    count = np.bincount(group, minlength=sides.shape[1])
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    apart = distance.cdist(points[order], points[order])
    apart = np.add.reduceat(np.add.reduceat(apart, start, axis=0), start, axis=1)
    new = sides.astype(float)
    within_new = ((new @ apart) * new).sum(axis=1)
    between = ((new @ apart) * (1 - new)).sum(axis=1)
    within_old = apart.sum() - within_new - 2 * between
    size, other = new @ count, (1 - new) @ count
    cross = between / (size * other)
    gap = 2 * cross - within_new / size**2 - within_old / other**2
    return np.divide(gap, 2 * cross, out=np.zeros_like(gap), where=cross > 0)


def _row(
    feature: str, points: np.ndarray, identity: np.ndarray, is_new: np.ndarray, thresholds: dict[str, float]
) -> dict[str, Any] | None:
    """Returns the row of one feature, if there is a threshold to hold it against."""
    group, sides, deals = permutation.deal(identity, is_new, _SEED)
    found, *others = energies(points, group, np.concatenate([sides[np.newaxis], deals]))
    if feature not in thresholds and not others:
        return None
    calibrated = permutation.threshold(np.array(others), FLOORS[feature], permutation.CEILING)
    threshold = thresholds.get(feature, calibrated)
    return rows_lib.row(rows_lib.EMBEDDING, feature, "energy", float(found), threshold)


def _sides(new_identity: np.ndarray, old_identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Identities of both sides, and which are new."""
    identity = np.concatenate([new_identity, old_identity])
    return identity, np.arange(len(identity)) < len(new_identity)


def _to_known(
    new: np.ndarray, new_identity: np.ndarray, old: np.ndarray, old_identity: np.ndarray
) -> dict[str, np.ndarray]:
    """Angles of both sides, all of whose identities are in both, to centres of the other half of the old images."""
    vectors, identity = np.concatenate([new, old]), np.concatenate([new_identity, old_identity])
    half_of_old = _half(old_identity)
    half = np.concatenate([_half(new_identity), half_of_old])
    nearest, own = np.empty(len(vectors)), np.empty(len(vectors))
    for side in (False, True):
        centres, names = _centres(old[half_of_old != side], old_identity[half_of_old != side])
        cosines = vectors[half == side] @ centres.T
        nearest[half == side] = cosines.max(axis=1)
        own[half == side] = cosines[np.arange(len(cosines)), np.searchsorted(names, identity[half == side])]
    return {features.EMBEDDING_ANGLE: _angle(nearest), features.EMBEDDING_OWN: _angle(own)}


def _half(identity: np.ndarray) -> np.ndarray:
    """bool [N]: every other image of each identity."""
    order = np.argsort(identity, kind="stable")
    _, start, count = np.unique(identity[order], return_index=True, return_counts=True)
    half = np.empty(len(identity), bool)
    half[order] = (np.arange(len(identity)) - np.repeat(start, count)) % 2 == 1
    return half


def _centres(vectors: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normalised centres [C, d] and the identities [C] they are of."""
    names, place = np.unique(identity, return_inverse=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, place, vectors)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), names


def _nearest(vectors: np.ndarray, identity: np.ndarray, centres: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Angles [N] to the nearest centre of another identity."""
    return _angle(np.where(identity[:, np.newaxis] == names, -1.0, vectors @ centres.T).max(axis=1))


def _angle(cosine: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip(cosine, -1.0, 1.0))

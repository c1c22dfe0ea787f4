"""Whether one model's embeddings can stand in for another's: a linear map from old to new, and what it costs.

A gallery that is too large to be embedded anew in one go can serve under a new model with its old embeddings mapped, as
long as the loss is known and small.
"""

import dataclasses
import hashlib

import numpy as np

from longtail.models import errors
from longtail.models.metrics import calibration
from longtail.models.metrics import retrieval

RIDGE = 1e-3
_ROWS = 1024  # compared at once with all others


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a new model's queries lose against mapped old embeddings, at the threshold of the new model alone.

    `fmr` is the false match rate that `threshold` was measured for, on the new model's embeddings of `identities` that
    the map has not seen; `tpr` is its share of pairs of the same identity that are accepted, `tpr_mapped` that of new
    embeddings against mapped ones, and `fmr_mapped` the share of pairs of different identities that then are.

    Example:

    >>> compatibility.Loss(0.01, 0.6, tpr=0.9, tpr_mapped=0.85, fmr_mapped=0.012, identities=40).tpr_mapped
    0.85
    """

    fmr: float
    threshold: float
    tpr: float
    tpr_mapped: float
    fmr_mapped: float
    identities: int


def fit(old: np.ndarray, new: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """The matrix W, float32 [d, e], that minimises |X W - Y|^2 + ridge tr(X'X) / d |W|^2.

    X and Y are the unit embeddings of the same images by both models: a least squares fit, which the ridge keeps from
    following directions that the old model hardly uses. Sums are float64; O(N d^2).

    Args:
      old: float [N, d], of any length but zero.
      new: float [N, e], of the same images.
      ridge: 0 for plain least squares.

    Raises:
      ValueError: the numbers of rows differ, or a value is not finite.

    Example: a model whose axes were swapped.

    >>> compatibility.fit(np.eye(2), np.eye(2)[::-1], ridge=0.0).round(6).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    x, y = (np.asarray(_unit(name, values), np.float64) for name, values in (("old", old), ("new", new)))
    if len(x) != len(y):
        raise ValueError(f"old has {len(x)} rows and new {len(y)}: both are of the same images")
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge * np.trace(gram) / len(gram)
    return np.linalg.lstsq(gram, x.T @ y, rcond=None)[0].astype(np.float32)


def mapped(old: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Old embeddings, float [N, d], as the new model's: float32 [N, e], l2-normalised.

    Example:

    >>> compatibility.mapped(np.array([[3.0, 4.0]]), np.eye(2)[::-1]).round(6).tolist()
    [[0.800000011920929, 0.6000000238418579]]
    """
    return _unit("mapped", _unit("old", old) @ np.asarray(matrix, np.float32))


def measure(
    old: np.ndarray, new: np.ndarray, identities: np.ndarray, digests: np.ndarray, fmr: float, ridge: float = RIDGE
) -> Loss:
    """Fits the map on one half of the identities, and measures on the other what it costs; O(N^2), in blocks.

    Args:
      old: float [N, d], embeddings of images by the model that is replaced.
      new: float [N, e], of the same images by the one that replaces it.
      identities: str [N].
      digests: str [N], of the files: a file is never compared with itself.
      fmr: the false match rate of the threshold.
      ridge: of `fit`.

    Raises:
      errors.WorkError: a half has nothing to compare, or too few pairs to carry the rate.

    Example: a map between two embeddings of one space costs nothing.

    >>> rng = np.random.default_rng(0)
    >>> people = np.repeat(np.arange(80), 4).astype(str)
    >>> new = np.repeat(rng.normal(size=(80, 8)), 4, axis=0) + 0.1 * rng.normal(size=(320, 8))
    >>> files = np.arange(320).astype(str)
    >>> found = compatibility.measure(new @ rng.normal(size=(8, 8)), new, people, files, fmr=0.01)
    >>> abs(found.tpr - found.tpr_mapped) < 0.02
    True
    """
    names = np.unique(identities)
    order = sorted(names.tolist(), key=lambda name: hashlib.sha256(str(name).encode()).digest())
    fitted = np.isin(identities, order[: len(order) // 2])
    _, first = np.unique(np.stack([identities, digests]), axis=1, return_index=True)
    rest = np.intersect1d(np.flatnonzero(~fitted), first)
    if not fitted.any() or not len(rest):
        raise errors.WorkError(f"{len(names)} identities: some to fit a map and others to measure it are needed")
    other, own = new[rest], identities[rest]
    found = calibration.calibrate(other, own, digests[rest], [fmr])
    if not found["thresholds"]:
        raise errors.WorkError(
            f"a false match rate of {fmr:g} is not carried by {found['different']} pairs of different identities, half "
            f"of the images: they carry {found['smallest_fmr']:.2g}; give images of more people, or another rate"
        )
    [bar] = found["thresholds"]
    stand_in = mapped(old[rest], fit(old[fitted], new[fitted], ridge))
    same, different = _accepted(_unit("new", other), stand_in, own, digests[rest], bar["threshold"])
    return Loss(fmr, bar["threshold"], 1.0 - bar["fnmr"], same, different, len(names) - len(order) // 2)


def _accepted(queries, gallery, identities, digests, threshold: float) -> tuple[float, float]:
    """Shares of pairs at the threshold or above: of the same identity but not the same file, and of different ones."""
    counts = np.zeros([2, 2], np.int64)  # [is same, is accepted]
    for begin in range(0, len(queries), _ROWS):
        rows = slice(begin, begin + _ROWS)
        accepted = queries[rows] @ gallery.T >= threshold
        same = identities[rows, None] == identities
        compared = ~same | (digests[rows, None] != digests)
        for is_same in (0, 1):
            chosen = accepted[compared & (same == bool(is_same))]
            counts[is_same] += [len(chosen) - chosen.sum(), chosen.sum()]
    shares = counts[:, 1] / counts.sum(axis=1)
    return float(shares[1]), float(shares[0])


def _unit(name: str, values: np.ndarray) -> np.ndarray:
    return retrieval.unit(name, values, np.zeros(len(values)))

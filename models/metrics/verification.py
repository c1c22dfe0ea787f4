"""How good a model is at "are these two the same": ROC, TPR at FPR, EER and AUC of streamed comparisons."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models.metrics import comparisons
from longtail.models.metrics import intervals
from longtail.models.metrics import retrieval

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

# The rule of 30 (Doddington et al., The NIST speaker recognition evaluation, 2000): with fewer errors than these a rate
# is not known to within 30 % of itself, even if comparisons were independent.
LEAST_ERRORS = 30

# A similarity is known to `retrieval.TIE` only, so it is counted to that: -1 is bin 0 and 1 the last.
_PER_UNIT = round(1 / retrieval.TIE)
_BINS = 2 * _PER_UNIT + 1


@dataclasses.dataclass(frozen=True)
class Curve:
    """A ROC, from the strictest threshold to the laxest.

    "Same" is said where the similarity reaches the threshold. Equal similarities (to 1e-6) are accepted together.

    Attributes:
      bins: int64 [T], descending; similarities in units of 1e-6, from -1 on.
      true: int64 [T], same pairs accepted at this threshold.
      false: int64 [T], different pairs accepted.
      same: how many same pairs there are, accepted or not.
      different: how many different pairs.

    Example: one same pair above the one different pair.

    >>> curve = verification.measure(comparisons.Listed(np.eye(2)[[0, 0]], np.eye(2), ["a", "a"], ["a", "b"]))
    >>> curve.true.tolist(), curve.false.tolist(), curve.auc()
    ([1, 1], [0, 1], 1.0)
    """

    bins: np.ndarray
    true: np.ndarray
    false: np.ndarray
    same: int
    different: int

    @property
    def smallest_rate(self) -> float:
        """The smallest false positive rate that so many different pairs can support, by the rule of 30."""
        return LEAST_ERRORS / self.different

    def at(self, rate: float) -> tuple[float, float]:
        """The lowest threshold whose false positive rate is at most `rate`, and its true positive rate.

        Args:
          rate: share of the different pairs.

        Returns:
          The threshold, just above the first different pair that it refuses (-1: it refuses none); and the share of the
          same pairs that reach it.
        """
        allowed = np.floor(rate * self.different * (1 + 1e-12))
        accepted = int(np.searchsorted(self.false, allowed, side="right"))
        bar = -1.0 if accepted == len(self.bins) else _lower_edge(self.bins[accepted] + 1)
        return bar, float(self.true[accepted - 1] / self.same) if accepted else 0.0

    def equal_error(self) -> tuple[float, float]:
        """The rate at which as many different pairs are accepted as same pairs refused, and the threshold there.

        Between two thresholds the ROC is a straight line.
        """
        false = np.concatenate([[0.0], self.false / self.different])
        miss = np.concatenate([[1.0], 1.0 - self.true / self.same])
        after = int(np.argmax(false >= miss))
        gap = miss[after - 1] - false[after - 1]
        part = gap / (gap + false[after] - miss[after])
        rate = false[after - 1] + part * (false[after] - false[after - 1])
        return float(rate), _lower_edge(self.bins[after - 1])

    def auc(self) -> float:
        """Area under the ROC: how often a same pair is more similar than a different one, ties by half."""
        false = np.concatenate([[0.0], self.false / self.different])
        true = np.concatenate([[0.0], self.true / self.same])
        return float((np.diff(false) * (true[1:] + true[:-1])).sum() / 2)

    def points(self, count: int = 61) -> list[tuple[float, float]]:
        """(FPR, TPR) at FPR in equal steps of its logarithm, from 1 / different pairs to 1, to draw."""
        rates = np.geomspace(1 / self.different, 1.0, count)
        return [(float(rate), self.at(rate)[1]) for rate in rates]


def _lower_edge(number: int) -> float:
    return float((number - 0.5) / _PER_UNIT - 1.0)


def measure(pairs: comparisons.Comparisons) -> Curve:
    """Counts the similarities of same and of different pairs. Memory is two counters of 16 MiB and a chunk.

    Raises:
      errors.WorkError: no same or no different pair.

    Example:

    >>> curve = verification.measure(comparisons.AllPairs(np.eye(3), ["a", "a", "b"]))
    >>> curve.same, curve.different
    (1, 2)
    """
    same, different = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for chunk in pairs:
        bins, mask = _bins(chunk.similarity), np.broadcast_to(chunk.same, chunk.similarity.shape)
        _count(same, bins[mask])
        _count(different, bins[~mask])
    for of, counts in (("one identity", same), ("two identities", different)):
        if not counts.any():
            raise errors.WorkError(
                f"no pair of images of {of} to compare: the pairs, or the images, must have some"
            )
    return _curve(same, different)


def curve_of(genuine: np.ndarray, impostor: np.ndarray, misses: int = 0) -> Curve:
    """The ROC of scores that are known already.

    Args:
      genuine: float [S], scores that ought to be accepted.
      impostor: float [D], scores that ought not to.
      misses: how many more ought to be accepted and are not at any threshold.

    Example:

    >>> verification.curve_of(np.array([0.9]), np.array([0.1, 0.95]), misses=1).at(0.5)[1]
    0.5
    """
    same, different = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    _count(same, _bins(genuine))
    _count(different, _bins(impostor))
    curve = _curve(same, different)
    return dataclasses.replace(curve, same=curve.same + misses)


def _bins(similarity: np.ndarray) -> np.ndarray:
    bins = np.rint((np.asarray(similarity, np.float32) + np.float32(1)) * np.float32(_PER_UNIT))
    return np.clip(bins, 0, _BINS - 1).astype(np.int32)


def _count(counts: np.ndarray, bins: np.ndarray) -> None:
    if len(bins) * 8 < _BINS:  # a counter of all bins takes longer than the few that there are
        np.add.at(counts, bins, 1)
    else:
        counts += np.bincount(bins, minlength=_BINS)


def _curve(same: np.ndarray, different: np.ndarray) -> Curve:
    used = np.flatnonzero((same > 0) | (different > 0))[::-1]
    true, false = np.cumsum(same[used]), np.cumsum(different[used])
    return Curve(used, true, false, int(true[-1]), int(false[-1]))


def evaluate(
    pairs: comparisons.Comparisons, rates: Sequence[float] = RATES, draws: int = 500, seed: int = 0
) -> dict[str, Any]:
    """All figures of verification, with 95 % intervals by a bootstrap over identities.

    The comparisons are gone through twice where there are draws: once to count, once to take what is drawn from.

    Args:
      pairs: which images are compared.
      rates: false positive rates.
      draws: of the bootstrap; 0: no intervals.
      seed: of the draws.

    Returns:
      `same`, `different` (pairs), `identities`, `smallest_fpr`, `auc`, `eer`, `eer_threshold`; `points`: for each rate
      `fpr`, `threshold`, `tpr`, `fnmr` (1 - tpr), all but the first None where the pairs cannot support the rate; and
      `interval`s, pairs of a lower and an upper end, of `auc`, `eer`, and each point's `threshold` and `tpr`.

    Raises:
      errors.WorkError: no same or no different pair.

    Example: sixty different pairs support a rate of a half at most.

    >>> found = verification.evaluate(comparisons.AllPairs(np.eye(12), np.arange(12) // 2), rates=(0.5, 0.1))
    >>> found["different"], found["smallest_fpr"], [point["tpr"] for point in found["points"]]
    (60, 0.5, [0.0, None])
    """
    curve, rates = measure(pairs), list(rates)
    different, same = _samples(pairs, curve, seed)
    drawn = intervals.of_roc(different, same, pairs.identities, rates, draws, seed)
    rate, threshold = curve.equal_error()
    return {
        "same": curve.same,
        "different": curve.different,
        "identities": pairs.identities,
        "smallest_fpr": curve.smallest_rate,
        "auc": curve.auc(),
        "auc_interval": drawn["auc"],
        "eer": rate,
        "eer_interval": drawn["eer"],
        "eer_threshold": threshold,
        "points": points(curve, drawn, rates),
    }


def points(curve: Curve, drawn: Mapping[str, Any], rates: Sequence[float]) -> list[dict[str, Any]]:
    """What is accepted at each false positive rate; see `evaluate`.

    Args:
      curve: the ROC.
      drawn: of `intervals.of_roc`, with the same rates.
      rates: shares of 1.

    Example:

    >>> curve = verification.curve_of(np.array([0.9]), np.linspace(0.0, 0.5, 60))
    >>> verification.points(curve, {"threshold": [None], "tpr": [None]}, [0.5])[0]["tpr"]
    1.0
    """
    told = []
    for rate, bars, accepted in zip(rates, drawn["threshold"], drawn["tpr"], strict=True):
        known = supports(curve.different, rate)
        threshold, tpr = curve.at(rate) if known else (None, None)
        told.append({
            "fpr": rate,
            "threshold": threshold,
            "threshold_interval": bars if known else None,
            "tpr": tpr,
            "tpr_interval": accepted if known else None,
            "fnmr": 1.0 - tpr if tpr is not None else None,
        })  # fmt: skip
    return told


def supports(different: int, rate: float) -> bool:
    """Whether so many different pairs can support a false positive rate, by the rule of 30.

    Example:

    >>> verification.supports(3000, 1e-2), verification.supports(3000, 1e-3)
    (True, False)
    """
    return rate * different >= LEAST_ERRORS * (1 - 1e-9)


def _samples(pairs: comparisons.Comparisons, curve: Curve, seed: int) -> tuple[intervals.Scores, intervals.Scores]:
    """What is drawn from, different and same pairs: all of them, or the most similar ones and a part of the others."""
    random = np.random.default_rng(seed)
    kept = intervals.MOST_SCORES
    tail = np.searchsorted(curve.false, kept // 2, side="right") if curve.different > kept else len(curve.bins)
    bar = curve.bins[tail - 1] if tail else _BINS
    others = curve.different - (curve.false[tail - 1] if tail else 0)
    shares = {"other": min(1.0, kept / 2 / max(1, others)), "same": min(1.0, kept / curve.same)}
    parts: dict[str, list[intervals.Scores]] = {"different": [], "same": []}
    for chunk in pairs:
        bins, same = _bins(chunk.similarity), np.broadcast_to(chunk.same, chunk.similarity.shape)
        parts["different"].append(_taken(chunk, ~same & (bins >= bar), 1.0, random))
        parts["different"].append(_taken(chunk, ~same & (bins < bar), shares["other"], random))
        parts["same"].append(_taken(chunk, same, shares["same"], random))
    return intervals.joined(parts["different"]), intervals.joined(parts["same"])


def _taken(chunk, mask: np.ndarray, share: float, random: np.random.Generator) -> intervals.Scores:
    where = np.flatnonzero(mask)
    if share < 1.0:
        where = random.choice(where, random.binomial(len(where), share), replace=False)
    at = np.unravel_index(where, mask.shape)
    left, right = (np.broadcast_to(codes, mask.shape)[at] for codes in (chunk.left, chunk.right))
    return intervals.Scores(chunk.similarity[at], left, right, np.full(len(where), 1 / share))

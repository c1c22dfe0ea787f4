"""How sure figures of a ROC are: the identities that it was measured on are drawn anew, many times."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

MOST_SCORES = 200_000  # of either kind that are drawn from
_LEVEL = 0.95
_FLOOR = -1.5  # below every similarity

Interval = tuple[float, float]


class Scores(NamedTuple):
    """Similarities that are drawn with their identities.

    Attributes:
      similarity: float [P]; below -1.5: never accepted.
      left: int64 [P], code of the first image's identity.
      right: int64 [P], of the second one's; the number of identities where there is none.
      times: float [P], how many such comparisons it stands for.

    Example:

    >>> intervals.Scores(np.array([0.5]), np.array([0]), np.array([1]), np.array([1.0])).similarity
    array([0.5])
    """

    similarity: np.ndarray
    left: np.ndarray
    right: np.ndarray
    times: np.ndarray


def joined(parts: Sequence[Scores]) -> Scores:
    """One of many.

    Example:

    >>> one = intervals.Scores(np.array([0.5]), np.array([0]), np.array([1]), np.array([1.0]))
    >>> intervals.joined([one, one]).similarity
    array([0.5, 0.5])
    """
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def of_roc(
    different: Scores, same: Scores, identities: int, rates: Sequence[float], draws: int, seed: int = 0
) -> dict[str, Any]:
    """The interval of each figure of a ROC that 95 % of the draws lie in: a bootstrap over identities.

    In each draw as many identities as there are are taken with replacement. A pair of one identity counts as often as
    that was taken, and one of two as often as the product says (the vertex bootstrap of Fogliato, Patil and Perona,
    Confidence intervals for error rates in 1:1 matching tasks, 2024): whoever resembles many others is in many pairs,
    which are therefore no independent ones. A draw that has no pairs of either kind is left out.

    Args:
      different: scores that ought to be refused.
      same: scores that ought to be accepted.
      identities: how many there are.
      rates: false positive rates.
      draws: how often; 0: no intervals.
      seed: of the draws.

    Returns:
      `auc` and `eer`, an interval or None; `threshold` and `tpr`, one for each rate.

    Example: all same pairs above all different ones, in every draw.

    >>> every = np.arange(4)
    >>> different = intervals.Scores(np.linspace(0.0, 0.3, 4), every, np.roll(every, 1), np.ones(4))
    >>> same = intervals.Scores(np.full(4, 0.9), every, every, np.ones(4))
    >>> intervals.of_roc(different, same, 4, [0.1], draws=50)["auc"]
    (1.0, 1.0)
    """
    roc, random = _Roc(_falling(different), _falling(same)), np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        counts = np.bincount(random.integers(identities, size=identities), minlength=identities + 1)
        counts[identities] = 1
        drawn = roc.figures(counts, rates)
        if drawn is not None:
            found.append(drawn)
    told = _ends(np.array(found)) if found else [None] * (2 + 2 * len(rates))
    return {"auc": told[0], "eer": told[1], "threshold": told[2 : 2 + len(rates)], "tpr": told[2 + len(rates) :]}


def _ends(found: np.ndarray) -> list[Interval]:
    low, high = np.quantile(found, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _falling(scores: Scores) -> Scores:
    order = np.argsort(-scores.similarity, kind="stable")
    return Scores(*(column[order] for column in scores))


class _Roc:
    """Scores in falling order, and where those of one kind stand among the other; weights change with each draw."""

    def __init__(self, different: Scores, same: Scores):
        self._different, self._same = different, same
        self._falling = -same.similarity
        self._above = np.searchsorted(-different.similarity, self._falling, side="left")
        self._reaching = np.searchsorted(-different.similarity, self._falling, side="right")
        self._same_above = np.searchsorted(self._falling, -different.similarity, side="left")

    def figures(self, counts: np.ndarray, rates: Sequence[float]) -> list[float] | None:
        """AUC, EER, thresholds and true positive rates where each identity counts `counts` times."""
        pairs = self._different.times * counts[self._different.left] * counts[self._different.right]
        false = np.concatenate([[0.0], np.cumsum(pairs)])
        own = self._same.times * counts[self._same.left]
        true = np.concatenate([[0.0], np.cumsum(own)])
        if not (false[-1] > 0 and true[-1] > 0):
            return None
        auc = 1 - own @ (false[self._above] + false[self._reaching]) / 2 / false[-1] / true[-1]
        bars = [self._bar(false, rate) for rate in rates]
        accepted = [true[np.searchsorted(self._falling, -bar, side="left")] / true[-1] for bar in bars]
        return [auc, self._equal_error(false, true), *bars, *accepted]

    def _bar(self, false: np.ndarray, rate: float) -> float:
        """Similarity of the first different pair that is refused: what is above it is accepted."""
        at = int(np.searchsorted(false, rate * false[-1] * (1 + 1e-12), side="right")) - 1
        return float(self._different.similarity[at]) if at < len(self._different.similarity) else _FLOOR

    def _equal_error(self, false: np.ndarray, true: np.ndarray) -> float:
        miss = 1 - true[self._same_above] / true[-1]  # with the threshold just above each different pair
        rate = false[:-1] / false[-1]
        at = min(int(np.searchsorted(rate - miss, 0.0)), len(rate) - 1)
        return (rate[at] + miss[at]) / 2

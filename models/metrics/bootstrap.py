"""How sure a difference between two models is, over seeds and over the identities it was measured on."""

import numpy as np
import numpy.typing as npt
from scipy import stats


def interval(
    differences: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a mean paired difference, in which seeds and identities both stand for others of their kind.

    The identities' part is a percentile bootstrap of the mean over the seeds: as many identities as there are are drawn
    with replacement, alike for all seeds, since every seed was scored on them. The seeds are too few for that (a
    bootstrap's "95 %" of three holds in 8 of 10 cases), so their part is Student's interval of the S means. The
    distances of the ends from the mean are added in quadrature (the MOVER of Zou and Donner, Statistics in Medicine,
    2008). With one seed the spread is that over identities alone. Time and memory are O(draws x identities).

    Args:
      differences: float [S, I], one model's figure minus the other's for each seed and identity.
      weights: float [I], of each identity in the mean, such as its number of queries; all alike by default.
      draws: how often identities are drawn.
      level: how often such an interval should hold what it is of, e.g. 0.95.
      seed: of the draws.

    Returns:
      Its lower and upper end, in the unit of `differences`.

    Raises:
      ValueError: shapes do not fit, nothing to draw from, a value that is not finite, or a weight that is not above 0.

    Example: a difference that all seeds and identities agree on is certain.

    >>> bootstrap.interval([[0.5, 0.5], [0.5, 0.5]])
    (0.5, 0.5)
    """
    differences = np.asarray(differences, np.float64)
    weights = np.ones(differences.shape[-1:]) if weights is None else np.asarray(weights, np.float64)
    if differences.ndim != 2 or not differences.size or weights.shape != differences.shape[1:]:
        raise ValueError(
            "`differences` must be [S, I], neither of them 0, and `weights` [I]. "
            f"Received: shapes {differences.shape} and {weights.shape}"
        )
    if not np.isfinite(differences).all():
        raise ValueError("`differences` must be finite. Received: values that are not")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError("`weights` must be finite and above 0. Received: values that are not")
    of_seeds = differences @ weights / weights.sum()
    mean = of_seeds.mean()
    drawn = draw_counts(len(weights), draws, seed) * weights
    means = drawn @ differences.mean(axis=0) / drawn.sum(axis=1)
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    low, high = mean + np.array([-1, 1]) * np.hypot(ends - mean, _half_width(of_seeds, level))
    return float(low), float(high)


def _half_width(values: np.ndarray, level: float) -> float:
    """Of Student's interval of the mean of `values`; 0 where there is one."""
    if len(values) < 2:
        return 0.0
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf((1 + level) / 2, len(values) - 1) * error)


def draw_counts(identities: int, draws: int, seed: int) -> np.ndarray:
    """How often each identity is taken in each draw: int64 [draws, I].

    Example: each draw takes as many as there are.

    >>> bootstrap.draw_counts(3, draws=2, seed=0).sum(axis=1).tolist()
    [3, 3]
    """
    random = np.random.default_rng(seed)
    return random.multinomial(identities, np.full(identities, 1 / identities), size=draws)

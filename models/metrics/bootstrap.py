"""How sure a difference between two models is, over seeds and over the identities it was measured on."""

import numpy as np
import numpy.typing as npt


def interval(
    differences: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a mean paired difference when seeds and identities are both drawn anew.

    In each draw as many seeds and as many identities as there are are taken with replacement, the identities alike
    for all seeds, since every seed was scored on them (Owen, The pigeonhole bootstrap, 2007). With one seed the
    spread is that over identities alone. Time and memory are O(draws x identities).

    Args:
      differences: float [S, I], one model's figure minus the other's for each seed and identity.
      weights: float [I], of each identity in the mean, such as its number of queries; all alike by default.
      draws: how often seeds and identities are drawn.
      level: share of the draws within the interval.
      seed: of the draws.

    Returns:
      Its lower and upper end, in the unit of `differences`.

    Raises:
      ValueError: shapes do not fit, nothing to draw from, or a value that is not finite.

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
    seeds, identities = differences.shape
    of_seeds, of_identities = draw_counts(seeds, identities, draws, seed)
    of_identities = of_identities * weights
    total = np.einsum("rs,si,ri->r", of_seeds, differences, of_identities, optimize=["einsum_path", (0, 1), (0, 1)])
    means = total / (len(differences) * of_identities.sum(axis=1))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def draw_counts(seeds: int, identities: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each identity is taken in each draw: int64 [draws, S] and [draws, I].

    Example: of one seed there is nothing to choose.

    >>> bootstrap.draw_counts(1, 3, draws=2, seed=0)[0].tolist()
    [[1], [1]]
    """
    random = np.random.default_rng(seed)
    of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return of_seeds, random.multinomial(identities, np.full(identities, 1 / identities), size=draws)

"""Thresholds of the numbers, by what chance alone does to the very distance that is compared."""

import numpy as np

from longtail.components.data import features
from longtail.components.data import tables
from longtail.components.drift import buckets
from longtail.components.drift import permutation

# The least distance that is called drift. A tenth of the images at values that none had before is 0.05.
FLOOR = 0.05
FORMAT_FLOOR = 0.15
# With so few identities that chance cannot be measured. Clean spans of the same five identities came to 0.2; of five
# other ones to 0.6, one span in fifteen beyond this. Nine in ten images darkened come to more.
FIXED = 0.5
_SEED = 0


def thresholds(current: tables.Table, baseline: tables.Table) -> dict[str, float]:
    """Thresholds of every feature of `tables.COLUMNS`, none where a side is empty; `FIXED` for few identities.

    Args:
      current: of the new span.
      baseline: of the accepted span.
    """
    if not len(current.identity) or not len(baseline.identity):
        return {}
    identity, is_new = _identities(current, baseline)
    group, _, sides = permutation.deal(identity, is_new, _SEED)
    values = np.concatenate([current.values, baseline.values])
    found = {}
    for name, column in zip(tables.COLUMNS, values.T, strict=True):
        if name == features.FORMAT:
            found[name] = permutation.threshold(share_changes(column, group, sides), FORMAT_FLOOR, FIXED)
        else:
            known = ~np.isnan(column)
            found[name] = permutation.threshold(divergences(column[known], group[known], sides), FLOOR, FIXED)
    return found


def note(current: tables.Table, baseline: tables.Table) -> str:
    """A line that says why thresholds are `FIXED`, or ""."""
    if not len(current.identity) or not len(baseline.identity):
        return ""
    if permutation.deal(*_identities(current, baseline), _SEED)[2].size:
        return ""
    return f"few identities: chance cannot be measured, the threshold of numbers is {FIXED}"


def _identities(current: tables.Table, baseline: tables.Table) -> tuple[np.ndarray, np.ndarray]:
    """Identities of both spans' images, and which are new."""
    identity = np.concatenate([current.identity, baseline.identity])
    return identity, np.arange(len(identity)) < len(current.identity)


def share_changes(is_word: np.ndarray, group: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """By how much a word's share of the images differs between the two sides of every deal."""
    images = np.bincount(group, minlength=sides.shape[1])
    words = np.bincount(group, is_word, minlength=sides.shape[1])
    return np.abs((sides @ words) / (sides @ images) - (~sides @ words) / (~sides @ images))


def divergences(values: np.ndarray, group: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of the two sides of every deal, over common buckets as the gate's own.

    Args:
      values: [N], one feature of the images.
      group: int [N], as `deal` gives them.
      sides: bool [deals, groups].

    Returns:
      [deals], from 0 to 1.
    """
    order = np.argsort(values, kind="stable")
    ordered, group = values[order], group[order]
    found = np.zeros(len(sides))
    for number, side in enumerate(sides):
        is_new = side[group]
        both = [_quantiles(ordered[is_new]), _quantiles(ordered[~is_new])]
        if all(both):
            found[number] = permutation.divergence(*buckets.common_shares(*both))
    return found


def _quantiles(ordered: np.ndarray) -> list[tuple[float, float, float]]:
    """Ten quantiles (low, high, count) of ascending values, as TFDV's statistics hold them."""
    if not len(ordered):
        return []
    ends = ordered[np.round(np.linspace(0, len(ordered) - 1, 11)).astype(int)].tolist()
    return [(low, high, len(ordered) / 10) for low, high in zip(ends[:-1], ends[1:], strict=True)]

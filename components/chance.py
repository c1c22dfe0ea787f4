"""How far apart two samples of one source come to be by chance, so that small spans raise no alarm and large ones do.

Images of one identity resemble each other, so it is whole identities, not images, that are dealt anew to two sides: an
identity of 20 alike images says little more about the source than one image does. The threshold is what the farthest
of the deals reached, widened by a margin, and never below a floor: with many images the smallest change is no chance,
and still of no consequence.
"""

from collections.abc import Sequence

import numpy as np

DEALS = 200
MARGIN = 1.25
CEILING = 0.95  # of a distance that is at most 1: where two sides have nothing in common, that is always drift


def threshold(by_chance: np.ndarray, floor: float, ceiling: float = CEILING) -> float:
    """What a distance must exceed to be drift: beyond all that chance did, and beyond the floor."""
    reached = float(np.max(by_chance)) if len(by_chance) else 0.0
    return float(min(max(floor, MARGIN * reached), ceiling))


def deal(
    identity: np.ndarray, is_new: np.ndarray, seed: int, deals: int = DEALS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deals the identities of two spans anew.

    An identity's images of one span are a group. One that is in both spans has two, which change sides together or
    stay; the groups of the others are shuffled, each side getting as many as it has.

    Args:
        identity: uint64 [N], of the images of both spans.
        is_new: bool [N], which of them are of the new one.
        seed: another seed, other deals.
        deals: how many.

    Returns:
        The group of each image, int [N]; bool [groups]: which groups are new; and bool [deals, groups]: which groups
        a deal gives to the new side.
    """
    pairs = np.stack([identity, is_new.astype(identity.dtype)])
    (names, new), group = np.unique(pairs, axis=1, return_inverse=True)
    sides = new.astype(bool)
    _, name = np.unique(names, return_inverse=True)
    shared = np.bincount(name)[name] == 2
    rng = np.random.default_rng(seed)
    dealt = np.tile(sides, (deals, 1))
    changed = rng.random((deals, name.max() + 1)) < 0.5
    dealt[:, shared] ^= changed[:, name[shared]]
    dealt[:, ~shared] = rng.permuted(dealt[:, ~shared], axis=1)
    return group.reshape(-1), sides, dealt


def divergence(first: Sequence[float], second: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two sides' shares, base 2."""
    one, two = np.asarray(first, float), np.asarray(second, float)
    mean = (one + two) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log2(side / mean), 0.0).sum() for side in (one, two)]
    return float(max(0.0, sum(parts) / 2))

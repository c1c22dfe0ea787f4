"""How far apart two samples of one source come to be by chance, so that small spans raise no alarm and large ones do.

Images of one identity resemble each other, so it is whole identities, not images, that are dealt anew to two sides: an
identity of 20 alike images says little more about the source than one image does. The threshold is what the farthest
of the deals reached, widened by a margin, and never below a floor: with many images the smallest change is no chance,
and still of no consequence.

A deal that is nearly the split at hand holds the very drift that is asked after, and a threshold made of it would let
anything pass. Such deals are left out; of few identities too many are such, and there are no deals at all: a fixed
threshold, or none, is the caller's then.
"""

from collections.abc import Sequence

import numpy as np

DEALS = 200
MARGIN = 1.25
# So few identities that could change sides, or different deals, say nothing of chance.
LEAST_EXCHANGEABLE = 12
_LEAST_DEALS = 100
_ALIKE = 0.8  # correlation of two splits from which on they are nearly one; drift is felt by about its square
CEILING = 0.95  # of a distance that is at most 1: where two sides have nothing in common, that is always drift


def threshold(null_distances: np.ndarray, floor: float, fixed: float) -> float:
    """What a distance must exceed to be drift: all that chance did, and the floor; without any deals `fixed`."""
    if not len(null_distances):
        return fixed
    return float(min(max(floor, MARGIN * float(np.max(null_distances))), CEILING))


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
      a deal gives to the new side. Those that are nearly the split at hand, or its mirror, are left out; there are
      none where `exchangeable` is below `LEAST_EXCHANGEABLE`.
    """
    group, sides, name, shared, movable = _groups(identity, is_new)
    rng = np.random.default_rng(seed)
    dealt = np.tile(sides, (deals, 1))
    changed = rng.random((deals, name.max() + 1)) < 0.5
    dealt[:, shared] ^= changed[:, name[shared]]
    dealt[:, ~shared] = rng.permuted(dealt[:, ~shared], axis=1)
    dealt = dealt[_correlation(dealt, sides, np.bincount(group) * movable) <= _ALIKE]
    different = len(np.unique(np.packbits(dealt, axis=1), axis=0))
    if exchangeable(identity, is_new) < LEAST_EXCHANGEABLE or different < min(_LEAST_DEALS, deals // 2):
        dealt = dealt[:0]
    return group, sides, dealt


def exchangeable(identity: np.ndarray, is_new: np.ndarray) -> float:
    """How many identities of equal size could as well change sides as these: fewer where a few have most images.

    Where one span alone has identities of its own, there is nothing to change them for: they count as one.
    """
    group, _, name, shared, movable = _groups(identity, is_new)
    images = np.bincount(group).astype(float)
    units = np.concatenate(
        [np.bincount(name[shared], images[shared]), images[movable & ~shared], [images[~movable].sum()]]
    )
    return float(units.sum() ** 2 / (units**2).sum())


def _correlation(dealt: np.ndarray, sides: np.ndarray, images: np.ndarray) -> np.ndarray:
    """How nearly each deal is the split at hand or its mirror, [deals]: 1 where it is, 0 at chance."""
    weight = images / max(1, images.sum())
    new, real = dealt @ weight, sides @ weight
    spread = np.sqrt(new * (1 - new) * real * (1 - real))
    together = np.abs(dealt @ (weight * sides) - new * real)
    return np.divide(together, spread, out=np.ones(len(dealt)), where=spread > 0)


def _groups(identity: np.ndarray, is_new: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of images: the group. Of groups: if new, the number of the identity, if both spans have it, if it can move."""
    pairs = np.stack([identity, is_new.astype(identity.dtype)])
    (names, new), group = np.unique(pairs, axis=1, return_inverse=True)
    sides = new.astype(bool)
    _, name = np.unique(names, return_inverse=True)
    shared = np.bincount(name)[name] == 2
    alone = sides[~shared]
    return group.reshape(-1), sides, name, shared, shared | bool(alone.any() and not alone.all())


def divergence(first: Sequence[float], second: Sequence[float]) -> float:
    """Jensen-Shannon divergence of two sides' shares, base 2."""
    one, two = np.asarray(first, float), np.asarray(second, float)
    mean = (one + two) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(side > 0, side * np.log2(side / mean), 0.0).sum() for side in (one, two)]
    return float(max(0.0, sum(parts) / 2))

"""Common buckets for two histograms, so that one odd image does not look like drift.

TFDV takes the Jensen-Shannon divergence over ten equally wide buckets between the smallest and the
largest value of each side. One value far out stretches all ten: 99 images of 105 pixels and one of
900 read 1.0 against 100 of 105. The statistics also hold quantiles. From both sides' quantiles come
buckets that hold about a tenth of the images each, a value that many images share being one of its
own; an odd image then moves its own share and no more.
"""

import bisect
from collections.abc import Sequence

# The share of both sides' images, on average, at which a bucket is full. TFDV keeps ten quantiles.
BUCKET_SHARE = 0.1

_TINY = 1e-9  # Keeps a sum of ten tenths from falling short of one by rounding.

Quantiles = Sequence[tuple[float, float, float]]  # (low, high, count) of each, ascending.


def common_shares(first: Quantiles, second: Quantiles) -> tuple[list[float], list[float]]:
    """Returns both sides' share of each common bucket; each sums to 1.

    The finest buckets are the points where a quantile ends and the gaps between them. Neighbours
    are joined until they hold `BUCKET_SHARE`.
    """
    ends = sorted({end for low, high, _ in (*first, *second) for end in (low, high)})
    fine = zip(_fine_shares(first, ends), _fine_shares(second, ends), strict=True)
    shares: tuple[list[float], list[float]] = ([], [])
    one = two = 0.0
    for share_one, share_two in fine:
        one, two = one + share_one, two + share_two
        if (one + two) / 2 >= BUCKET_SHARE - _TINY:
            shares[0].append(one)
            shares[1].append(two)
            one = two = 0.0
    if one + two > _TINY:
        shares[0].append(one)
        shares[1].append(two)
    return shares


def _fine_shares(quantiles: Quantiles, ends: Sequence[float]) -> list[float]:
    """Spreads a side over point, gap, point, gap, ..., point; 2 * len(ends) - 1 shares."""
    total = sum(count for _, _, count in quantiles)
    shares = [0.0] * (2 * len(ends) - 1)
    for low, high, count in quantiles:
        start, stop = bisect.bisect_left(ends, low), bisect.bisect_left(ends, high)
        if start == stop:
            shares[2 * start] += count / total
        for index in range(start, stop):
            width = (ends[index + 1] - ends[index]) / (high - low)
            shares[2 * index + 1] += width * count / total
    return shares

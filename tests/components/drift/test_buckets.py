"""Common buckets lose no image and do not depend on the scale."""

import itertools

import hypothesis
import pytest
from hypothesis import strategies

from longtail.components.drift import buckets

_QUANTILES = strategies.lists(strategies.integers(0, 30), min_size=2, max_size=12).map(
    lambda ends: [(a, b, 1.0) for a, b in itertools.pairwise(sorted(ends))]
)


@hypothesis.given(first=_QUANTILES, second=_QUANTILES)
def test_common_buckets_keep_every_image_of_both_sides(first, second):
    shares = buckets.common_shares(first, second)
    assert len(shares[0]) == len(shares[1])
    assert [sum(side) for side in shares] == pytest.approx([1.0, 1.0])


@hypothesis.given(first=_QUANTILES, second=_QUANTILES)
def test_common_buckets_do_not_depend_on_the_scale(first, second):
    def scaled(quantiles):
        return [(low * 8, high * 8, count) for low, high, count in quantiles]

    ones, others = (
        buckets.common_shares(first, second),
        buckets.common_shares(scaled(first), scaled(second)),
    )
    assert [*ones[0], *ones[1]] == pytest.approx([*others[0], *others[1]])

"""Deals part no identity, keep each side's groups, are never the split at hand, and weigh groups by their images."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from longtail.components.drift import permutation


def _sizes(least, most):
    return strategies.lists(strategies.integers(1, 6), min_size=least, max_size=most)


# Images each of the identities in both spans, in the new one alone, in the old one alone: too few for deals, or enough.
_THREE_SIZES = strategies.sampled_from(
    [[_sizes(0, 5)] * 3, [_sizes(14, 24), _sizes(0, 5), _sizes(0, 5)], [_sizes(0, 5), _sizes(9, 20), _sizes(9, 20)]]
)


@strategies.composite
def spans(draw):
    """Identity uint64 [N] and is_new bool [N] of two spans' images, in any order: some identities in both, some not."""
    both, new, old = (draw(sizes) for sizes in draw(_THREE_SIZES))
    groups = [(number, side, size) for number, size in enumerate(both) for side in (False, True)]
    groups += [(100 + number, True, size) for number, size in enumerate(new)]
    groups += [(200 + number, False, size) for number, size in enumerate(old)]
    hypothesis.assume(groups)
    names, sides, sizes = zip(*groups, strict=True)
    order = np.random.default_rng(draw(strategies.integers(0, 99))).permutation(sum(sizes))
    return np.repeat(np.array(names, np.uint64), sizes)[order], np.repeat(sides, sizes)[order]


def movable(identity, is_new):
    """bool [N]: images whose identity is in both spans; and the others', where each span has some of its own."""
    new, old = set(identity[is_new]), set(identity[~is_new])
    return np.array([name in new & old or bool(new - old and old - new) for name in identity])


@hypothesis.given(spans())
def test_a_group_is_an_identitys_images_of_one_span(images):
    identity, is_new = images
    group, sides, _ = permutation.deal(identity, is_new, 0, 20)
    assert (sides[group] == is_new).all()
    assert len(set(zip(identity, is_new, group, strict=True))) == len(sides) == len(set(group))


@hypothesis.given(spans())
def test_each_side_gets_as_many_groups_as_it_has(images):
    _, sides, deals = permutation.deal(*images, 0, 20)
    assert (deals.sum(axis=1) == sides.sum()).all()


@hypothesis.given(spans())
def test_what_cannot_be_exchanged_keeps_its_side(images):
    group, sides, deals = permutation.deal(*images, 0, 20)
    stays = group[~movable(*images)]
    assert (deals[:, stays] == sides[stays]).all()


@hypothesis.given(spans(), strategies.integers(0, 5))
def test_the_order_of_the_images_changes_no_deal(images, seed):
    order = np.random.default_rng(seed).permutation(len(images[0]))
    once, again = (permutation.deal(*some, 0, 20)[2] for some in (images, [column[order] for column in images]))
    np.testing.assert_array_equal(once, again)


def correlation_of_images(group, sides, deals, counted):
    """[deals]: the correlation of a deal with the split at hand, image by image."""
    real = sides[group][counted].astype(float)
    return np.array([np.corrcoef(real, deal[group][counted])[0, 1] for deal in deals])


@hypothesis.given(spans())
def test_no_deals_images_are_nearly_the_split_at_hand(images):
    group, sides, deals = permutation.deal(*images, 0, 60)
    assert (abs(correlation_of_images(group, sides, deals, movable(*images))) <= 0.8 + 1e-9).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_deal_that_moves_only_small_identities_is_left_out(seed):
    identity = np.tile(np.concatenate([np.repeat(np.arange(12), 50), np.arange(12, 36)]), 2).astype(np.uint64)
    is_new = np.repeat([True, False], len(identity) // 2)
    group, sides, deals = permutation.deal(identity, is_new, seed, 1000)
    assert 900 < len(deals) < 1000
    assert abs(correlation_of_images(group, sides, deals, np.ones(len(identity), bool))).max() <= 0.8 + 1e-9


@hypothesis.given(spans(), strategies.integers(2, 5))
def test_exchangeable_identities_do_not_depend_on_how_often_every_image_is_there(images, times):
    again = [np.tile(column, times) for column in images]
    assert permutation.exchangeable(*again) == pytest.approx(permutation.exchangeable(*images))


@hypothesis.given(spans())
def test_no_more_identities_are_exchangeable_than_there_are(images):
    assert permutation.exchangeable(*images) * (1 + 1e-9) >= 1 and permutation.exchangeable(*images) <= len(
        set(images[0])
    ) * (1 + 1e-9)


@hypothesis.given(strategies.integers(1, 40), strategies.integers(1, 5))
def test_identities_of_one_size_in_both_spans_are_all_exchangeable(count, size):
    identity = np.tile(np.repeat(np.arange(count), size), 2).astype(np.uint64)
    is_new = np.repeat([True, False], count * size)
    assert permutation.exchangeable(identity, is_new) == pytest.approx(count)


def in_both_and_in_one(both, alone):
    """Identities with an image in each span, and `alone` images each of more that the new one has for itself."""
    identity = np.concatenate([np.tile(np.arange(both), 2), np.repeat(100 + np.arange(len(alone)), alone)])
    return identity.astype(np.uint64), np.repeat([True, False, True], [both, both, sum(alone)])


def test_what_one_span_alone_has_counts_as_one_identity():
    assert permutation.exchangeable(*in_both_and_in_one(3, [1] * 20)) == permutation.exchangeable(
        *in_both_and_in_one(3, [20])
    )


def test_what_one_span_alone_has_does_not_tell_deals_from_the_split_at_hand():
    identity, is_new = in_both_and_in_one(14, [6])
    group, sides, deals = permutation.deal(identity, is_new, 0, 5000)
    assert abs(correlation_of_images(group, sides, deals, identity < 100)).max() <= 0.8


def test_of_fewer_identities_than_chance_needs_there_are_no_deals():
    for count, there_are in ((11, False), (12, True)):
        identity = np.tile(np.arange(count), 2).astype(np.uint64)
        assert bool(len(permutation.deal(identity, np.repeat([True, False], count), 0)[2])) == there_are


_DISTANCES = strategies.lists(strategies.floats(0, 1), min_size=1, max_size=30).map(np.array)
_FLOORS = strategies.floats(0, permutation.CEILING)


@hypothesis.given(_DISTANCES, _FLOORS)
def test_a_threshold_is_beyond_all_that_chance_did_and_never_below_the_floor(null_distances, floor):
    found = permutation.threshold(null_distances, floor, 0.5)
    assert floor <= found <= permutation.CEILING
    assert found >= min(permutation.MARGIN * null_distances.max(), permutation.CEILING)


@hypothesis.given(_DISTANCES, _FLOORS)
def test_a_threshold_is_the_floor_the_widened_farthest_deal_or_the_ceiling(null_distances, floor):
    widened = permutation.MARGIN * float(null_distances.max())
    assert permutation.threshold(null_distances, floor, 0.5) in (floor, widened, permutation.CEILING)


@hypothesis.given(_FLOORS, strategies.floats(0, 1))
def test_without_deals_the_threshold_is_the_fixed_one(floor, fixed):
    assert permutation.threshold(np.zeros(0), floor, fixed) == fixed


_COUNTS = strategies.lists(strategies.tuples(strategies.integers(0, 9), strategies.integers(0, 9)), min_size=1).filter(
    lambda pairs: all(sum(side) for side in zip(*pairs, strict=True))
)


@hypothesis.given(_COUNTS)
def test_the_divergence_is_symmetric_and_from_0_to_1(pairs):
    one, two = (np.array(side) / sum(side) for side in zip(*pairs, strict=True))
    assert permutation.divergence(one, two) == pytest.approx(permutation.divergence(two, one))
    assert 0 <= permutation.divergence(one, two) <= 1 + 1e-9
    assert permutation.divergence(one, one) == 0


def test_sides_with_nothing_in_common_diverge_by_1():
    assert permutation.divergence([0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]) == pytest.approx(1)


def test_an_identity_in_both_spans_changes_sides_with_both_its_groups():
    identity = np.concatenate([np.arange(9), np.arange(9), 100 + np.arange(14)]).astype(np.uint64)
    is_new = np.concatenate([np.repeat([True, False], 9), np.repeat([True, False], 7)])
    group, sides, deals = permutation.deal(identity, is_new, 0, 50)
    first, second = group[0], group[9]
    assert (deals[:, first] != deals[:, second]).all()
    assert deals[:, first].any() and not deals[:, first].all()
    assert (deals.sum(axis=1) == sides.sum()).all()


def test_images_of_one_identity_are_never_parted():
    rng = np.random.default_rng(0)
    identity = rng.integers(0, 10, 60).astype(np.uint64)
    group, _, _ = permutation.deal(identity, np.arange(60) < 30, 0)
    pairs = {(one, new): number for one, new, number in zip(identity, np.arange(60) < 30, group, strict=True)}
    assert len(set(pairs.values())) == len(pairs)


@pytest.mark.parametrize("identities", [(12, 0), (0, 12), (6, 20)])
def test_no_deal_is_nearly_the_split_at_hand(identities):
    shared, others = identities
    identity = np.concatenate([np.arange(shared), np.arange(shared), 100 + np.arange(2 * others)]).astype(np.uint64)
    is_new = np.concatenate([np.repeat([True, False], shared), np.repeat([True, False], others)])
    _, sides, deals = permutation.deal(identity, is_new, 0)
    assert len(deals) > 100
    assert max(abs(np.corrcoef(sides, one)[0, 1]) for one in deals) <= 0.8


def test_a_few_identities_with_most_of_the_images_are_few():
    identity = np.concatenate([np.repeat(np.arange(3), 100), np.arange(3, 40)]).astype(np.uint64)
    both, is_new = np.tile(identity, 2), np.repeat([True, False], len(identity))
    assert permutation.exchangeable(both, is_new) < 5 and not len(permutation.deal(both, is_new, 0)[2])

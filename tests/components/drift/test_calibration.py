"""Calibrated thresholds let a real change pass for none, however few the identities."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from longtail.components.data import features
from longtail.components.data import tables
from longtail.components.drift import calibration
from tests.components.drift import spans


def _lit(identities, seed, dark):
    """A Table of ten images of each identity, all features at 0.8, but a share of the images at 0.2."""
    rng = np.random.default_rng(seed)
    table = spans.table(range(identities), 10, 1000 * seed)
    level = np.where(rng.random(len(table.identity)) < dark, 0.2, 0.8) + rng.normal(0, 0.05, len(table.identity))
    return dataclasses.replace(table, values=np.repeat(level[:, np.newaxis], len(tables.COLUMNS), axis=1))


@pytest.mark.parametrize("identities", [2, 5, 8, 12, 15, 40])
def test_images_darkened_are_found_with_few_identities_too(identities):
    sides = _lit(identities, 1, 0.9), _lit(identities, 2, 0.0)
    values, is_new = np.concatenate([table.values[:, 0] for table in sides]), np.repeat([1, 0], 10 * identities)
    [distance] = calibration.divergences(values, is_new, np.array([[False, True]]))
    assert distance > calibration.thresholds(*sides)[features.BRIGHTNESS]


def test_a_note_says_that_thresholds_are_fixed_for_few_identities():
    assert str(calibration.FIXED) in calibration.note(_lit(5, 1, 0.0), _lit(5, 2, 0.0))
    assert not calibration.note(_lit(40, 1, 0.0), _lit(40, 2, 0.0))


@hypothesis.given(strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.booleans()), min_size=1))
def test_shares_of_a_deal_are_counted_image_by_image(images):
    group, is_word = (np.array(column) for column in zip(*images, strict=True))
    sides = np.array([[True, False, True, False, False, True], [False, False, False, True, True, True]])
    hypothesis.assume(all(len(set(side[group])) == 2 for side in sides))
    expected = [abs(is_word[side[group]].mean() - is_word[~side[group]].mean()) for side in sides]
    assert calibration.share_changes(is_word, group, sides) == pytest.approx(expected)

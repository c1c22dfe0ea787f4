"""Who is held out, and which images ask: by hash, for good."""

import hypothesis
import pytest
from hypothesis import strategies

from longtail.components.data import splits

_NAMES = strategies.sets(strategies.text(min_size=1, max_size=5), min_size=2, max_size=30)
_FRACTIONS = strategies.floats(0.01, 0.99)


@hypothesis.given(_NAMES, _FRACTIONS, strategies.integers(0, 5))
def test_neither_side_is_ever_empty(identities, fraction, seed):
    held_out = splits.held_out(identities, fraction, seed)
    assert 0 < len(held_out) < len(identities)


def test_no_identity_changes_sides_when_others_join():
    few = {f"id{number}" for number in range(100)}
    many = {f"id{number}" for number in range(1000)}
    assert splits.held_out(few, 0.25, 0) == splits.held_out(many, 0.25, 0) & few


def test_the_share_held_out_is_about_the_fraction():
    identities = [f"id{number}" for number in range(4000)]
    assert len(splits.held_out(identities, 0.25, 0)) == pytest.approx(1000, abs=100)


def test_another_seed_holds_out_others():
    identities = [f"id{number}" for number in range(100)]
    assert splits.held_out(identities, 0.25, 0) != splits.held_out(identities, 0.25, 1)


@hypothesis.given(strategies.integers(2, 20), _FRACTIONS, strategies.booleans())
def test_two_images_or_more_both_ask_and_answer(count, fraction, all_alike):
    images = [(f"{number}.png", "same" if all_alike else f"{number}") for number in range(count)]
    assert 0 < len(splits.queries(images, fraction, 0)) < count


def test_a_single_image_answers():
    assert splits.queries([("1.png", "a")], 0.99, 0) == set()


def test_equal_files_fall_on_the_same_side():
    images = [(f"{number}.png", f"{number // 2}") for number in range(200)]
    asking = splits.queries(images, 0.5, 0)
    pairs = [{f"{number}.png", f"{number + 1}.png"} for number in range(0, 200, 2)]
    assert all(len(pair & asking) != 1 for pair in pairs)

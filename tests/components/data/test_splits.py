"""Who is held out, and which images ask: by hash, for good."""

import hypothesis
import pytest
from hypothesis import strategies

from longtail.components.data import base
from longtail.components.data import splits
from longtail.models.metrics import protocols

_NAMES = strategies.sets(strategies.text(min_size=1, max_size=5), min_size=2, max_size=30)
_FRACTIONS = strategies.floats(0.01, 0.99)


@hypothesis.given(_NAMES, _FRACTIONS, strategies.integers(0, 5))
def test_neither_side_is_ever_empty(identities, fraction, seed):
    held_out = splits.held_out(identities, fraction, seed)
    assert 0 < len(held_out) < len(identities)


@hypothesis.given(_NAMES.filter(lambda names: len(names) >= 4), _FRACTIONS, strategies.integers(0, 5))
def test_of_four_identities_or_more_two_are_on_either_side(identities, fraction, seed):
    assert 2 <= len(splits.held_out(identities, fraction, seed)) <= len(identities) - 2


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


TRAIN = [base.Item(f"{name}/1.png", name, split="train") for name in "ab"]


def asked(name, *images):
    """Held-out images of an identity, each (side, camera)."""
    return [base.Item(f"{name}/{number}.png", name, camera, side) for number, (side, camera) in enumerate(images)]


def held(*images):
    """Two training identities and two held-out ones that have the same images."""
    return [*TRAIN, *asked("x", *images), *asked("y", *images)]


@pytest.mark.parametrize("protocol", [protocols.RETRIEVAL, protocols.QUERY_GALLERY])
@pytest.mark.parametrize("side", [None, "query"])
def test_two_images_that_may_ask_and_answer_are_enough(protocol, side):
    items = held((side, 1), (side and "gallery", 1))
    assert splits.lacking(items, frozenset("xy"), protocol) == ""


def test_queries_without_an_answer_in_the_gallery_are_too_little_unless_each_image_is_asked_for():
    items = held(("query", 1), ("query", 2)) + asked("z", ("gallery", 1))
    assert "found 0 among 3" in splits.lacking(items, frozenset(), protocols.QUERY_GALLERY)
    assert splits.lacking(items, frozenset(), protocols.RETRIEVAL) == ""


@pytest.mark.parametrize("side", [None, "query"])
def test_across_cameras_an_identity_seen_by_one_alone_cannot_be_scored(side):
    same, other = (held((side, 1), (side and "gallery", camera)) for camera in (1, 2))
    assert "of two cameras" in splits.lacking(same, frozenset("xy"), protocols.REID)
    assert splits.lacking(other, frozenset("xy"), protocols.REID) == ""


def test_across_cameras_every_held_out_image_needs_one():
    said = splits.lacking(held((None, -1), (None, 2)), frozenset("xy"), protocols.REID)
    assert "crosses cameras, but 2 held-out images have none" in said


@hypothesis.given(
    strategies.lists(strategies.tuples(strategies.integers(0, 2), strategies.integers(0, 5)), min_size=1, max_size=6),
    _FRACTIONS,
    strategies.booleans(),
)
def test_images_still_to_be_divided_are_enough_just_where_a_query_then_has_a_match(images, fraction, crossed):
    items = asked("x", *((None, camera) for camera, _ in images))
    asking = splits.queries([(item.path, str(sha)) for item, (_, sha) in zip(items, images, strict=True)], fraction, 0)
    pairs = [(one, two) for one in items for two in items if one.path in asking and two.path not in asking]
    matched = any(not crossed or one.camera != two.camera for one, two in pairs)
    both = items + asked("y", *((None, camera) for camera, _ in images))
    protocol = protocols.REID if crossed else protocols.QUERY_GALLERY
    assert matched == (not splits.lacking(TRAIN + both, frozenset("xy"), protocol))

"""The three sides of a study: whole groups, by their names and the seed alone."""

import collections
import dataclasses

import pytest

from longtail.components import config
from longtail.components.data import base
from longtail.models import errors
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import sides

ALPHABETS = config.Study(group_pattern=r"^([^/]+)/")
IDENTITIES = [f"{alphabet}/{character}" for alphabet in "abcdefghijkl" for character in range(5)]


def _divide(identities, study, seed=0):
    return sides.divide(identities, config.Data(seed=seed), study)


def test_an_alphabet_is_on_one_side_alone_and_each_side_has_its_share():
    found = _divide(IDENTITIES, ALPHABETS)
    of = collections.defaultdict(set)
    for identity, side in found.items():
        of[side].add(identity[0])
    assert {side: len(groups) for side, groups in of.items()} == {"training": 7, "validation": 2, "test": 3}
    assert not of["training"] & of["validation"] and not of["validation"] & of["test"]


def test_sides_do_not_hang_on_the_order_and_another_seed_makes_others():
    found = _divide(IDENTITIES, ALPHABETS)
    assert _divide(reversed(IDENTITIES), ALPHABETS) == found
    assert _divide(IDENTITIES, ALPHABETS, seed=1) != found


def test_without_a_pattern_each_identity_is_a_group_of_its_own():
    found = collections.Counter(_divide(IDENTITIES, config.Study()).values())
    assert found == {"training": 34, "validation": 11, "test": 15}


def test_each_side_has_two_groups_where_there_are_six():
    found = collections.Counter(_divide("abcdef", config.Study()).values())
    assert found == {"training": 2, "validation": 2, "test": 2}


def test_without_a_validation_share_there_are_two_sides():
    found = _divide(IDENTITIES, dataclasses.replace(ALPHABETS, validation_fraction=0.0))
    assert collections.Counter(found.values()) == {"training": 45, "test": 15}


def test_the_omniglot_recipes_groups_are_its_alphabets():
    found = _divide([f"omniglot/{identity}" for identity in IDENTITIES], recipe_lib.load("omniglot_lt").study)
    assert found == {f"omniglot/{identity}": side for identity, side in _divide(IDENTITIES, ALPHABETS).items()}


@pytest.mark.parametrize(
    ("identities", "pattern", "said"),
    [
        (["a/0", "a/1", "b/0"], "^([^/]+)/", "--data: 2 groups of identities, 3 sides need 3 or more"),
        (["a/0", "b/0", "c"], "^([^/]+)/", "study.group_pattern: .* finds no group in the identity 'c'"),
    ],
)
def test_groups_that_cannot_be_divided_are_refused(identities, pattern, said):
    with pytest.raises(errors.UsageError, match=said):
        _divide(identities, config.Study(group_pattern=pattern))


@pytest.mark.parametrize("pattern", ["[", "no group", "(two)(groups)"])
def test_a_group_pattern_has_one_group(pattern):
    with pytest.raises(errors.UsageError, match="study.group_pattern"):
        recipe_lib.load("omniglot_lt", [f"study.group_pattern='{pattern}'"])


def test_a_yaw_pattern_has_one_group():
    with pytest.raises(errors.UsageError, match="transfer.yaw_pattern .* has 2 groups; it needs one, around degrees"):
        recipe_lib.load("ftl_omniglot", [r"transfer.yaw_pattern='(_y)(\d+)'"])


def _seen(cameras):
    """Two images each of six identities, as two cameras see them or one."""
    return [base.Item(f"{name}/{number}.png", name, number % cameras) for name in "abcdef" for number in range(2)]


def test_where_cameras_are_crossed_a_side_needs_identities_of_two_cameras():
    side_of = dict(zip("abcdef", [sides.TRAINING, sides.VALIDATION, sides.TEST] * 2, strict=True))
    sides.check(_seen(2), side_of, {}, cross_cameras=True)
    with pytest.raises(errors.UsageError, match="--data: test side: 0 identities with images of two cameras"):
        sides.check(_seen(1), side_of, {}, cross_cameras=True)


def test_a_tail_of_one_camera_needs_data_whose_cameras_are_known():
    side_of = dict.fromkeys("abcdef", sides.TRAINING)
    sides.check(_seen(1), side_of, {}, tail_cameras=1)
    unknown = [dataclasses.replace(item, camera=-1) for item in _seen(1)]
    with pytest.raises(errors.UsageError, match="tail_cameras: 1, but of 12 of 12 images to train on the camera"):
        sides.check(unknown, side_of, {}, tail_cameras=1)


def test_a_side_nobody_can_be_found_on_is_refused():
    side_of = {"a": sides.TRAINING, "b": sides.TRAINING, "c": sides.TEST, "d": sides.TEST}
    items = [base.Item(f"{identity}/{number}.png", identity) for identity in "abc" for number in range(2)]
    items += [base.Item("d/0.png", "d")]
    with pytest.raises(errors.UsageError, match="--data: test side: 1 identities with two images or more"):
        sides.check(items, side_of, {})

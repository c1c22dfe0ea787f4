"""The strict reader: every mistake in a recipe is named with its key, its file and what to write instead."""

import pytest

from longtail.models import config
from longtail.models import errors


def test_values_land_in_their_dataclasses():
    read = config.read(config.TrainConfig, {"model": {"image": [8, 8, 3]}, "head": {"scale": 16}}, "r.yaml")
    assert read.model.image == (8, 8, 3)
    assert read.head.scale == 16.0 and isinstance(read.head.scale, float)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"hed": {}}, "r.yaml: unknown key 'hed'; did you mean 'head'?"),
        ({"head": {"scal": 3}}, "unknown key 'head.scal'; did you mean 'scale'?"),
        ({"head": {"xyz": 3}}, "valid keys: name, scale, margin"),
        ({"head": {"scale": "big"}}, "head.scale must be float, not 'big'"),
        ({"head": {"scale": True}}, "head.scale must be float, not True"),
        ({"training": {"epochs": 1.5}}, "training.epochs must be int, not 1.5"),
        ({"training": {"epochs": True}}, "training.epochs must be int, not True"),
        ({"model": {"image": ["a"]}}, "model.image must be int, not 'a'"),
        ({"head": 3}, "head must be a mapping"),
        ([], "the file must be a mapping"),
    ],
)
def test_mistakes_are_named(mapping, message):
    with pytest.raises(errors.UsageError) as caught:
        config.read(config.TrainConfig, mapping, "r.yaml")
    assert message in str(caught.value)

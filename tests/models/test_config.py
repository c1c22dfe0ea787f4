"""The strict reader: every mistake in a recipe is named with its key, its file and what to write instead."""

import pytest

from longtail.models import config
from longtail.models import errors
from longtail.models import settings


def test_values_land_in_their_dataclasses():
    read = settings.read(config.TrainConfig, {"model": {"image": [8, 8, 3]}, "head": {"scale": 16}}, "r.yaml")
    assert read.model.image == (8, 8, 3)
    assert read.head.scale == 16.0 and isinstance(read.head.scale, float)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"hed": {}}, "r.yaml: unknown key 'hed'; did you mean 'head'?"),
        ({"head": {"scal": 3}}, "unknown key 'head.scal'; did you mean 'head.scale'?"),
        ({"head": {"xyz": 3}}, "valid keys: name, scale, margin"),
        ({"head": {"scale": "big"}}, "head.scale must be a number from 1e-06 to 1000000, not 'big'"),
        ({"head": {"scale": True}}, "head.scale must be a number from 1e-06 to 1000000, not True"),
        ({"training": {"epochs": 1.5}}, "training.epochs must be a whole number from 1 to 1000000000, not 1.5"),
        ({"training": {"epochs": True}}, "training.epochs must be a whole number from 1 to 1000000000, not True"),
        ({"model": {"image": ["a"]}}, "model.image must be a list, each item a whole number, not ['a']"),
        ({"head": {"options": {"momentum": "x"}}}, "head.options must be a mapping, each value a number, not"),
        ({"leap": {"form": 3}}, "leap.form must be one of drawn, closed, not 3"),
        ({"head": 3}, "head must be a mapping"),
        ([], "the file must be a mapping"),
    ],
)
def test_mistakes_are_named(mapping, message):
    with pytest.raises(errors.UsageError) as caught:
        settings.read(config.TrainConfig, mapping, "r.yaml")
    assert message in str(caught.value)

"""DistributionValidator finds planted drift and leaves odd images and new identities alone."""

import itertools
import os

import hypothesis
import pytest
from google.protobuf import json_format
from hypothesis import strategies

from components import features
from components.distribution_validator import buckets
from components.distribution_validator import comparators
from components.drift_gate import findings
from models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return examples.statistics(str(tmp_path_factory.mktemp("first")), examples.images(1))


def _distances(folder, current, baseline, config=None):
    anomalies = examples.validate_drift(str(folder), current, baseline, config)
    return findings.distances(anomalies[0].uri)


def _drifted(rows):
    return {row["feature"] for row in rows if row["verdict"] != findings.OK}


def test_every_feature_with_statistics_is_compared(tmp_path, first):
    rows = _distances(tmp_path, first, first)
    assert sorted(row["feature"] for row in rows) == sorted(features.STATISTICS)


def test_the_same_statistics_on_both_sides_show_no_distance(tmp_path, first):
    assert {row["distance"] for row in _distances(tmp_path, first, first)} == {0.0}


def test_new_identities_alone_are_no_drift(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.images(2))
    assert _drifted(_distances(tmp_path, second, first)) == set()


def test_inverted_images_drift_in_ink_and_brightness(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.inverted(examples.images(2)))
    assert _drifted(_distances(tmp_path, second, first)) == {features.INK, features.BRIGHTNESS}


def test_one_odd_image_is_no_drift(tmp_path, first):
    odd = {features.HEIGHT: 4000, features.ASPECT: 0.026, features.KILOBYTES: 900.0}
    span = [*examples.images(2), examples.image("odd", 0, **odd)]
    second = examples.statistics(str(tmp_path), span)
    assert _drifted(_distances(tmp_path, second, first)) == set()


def test_another_constant_size_is_drift(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.images(2, **{features.HEIGHT: 106}))
    assert _drifted(_distances(tmp_path, second, first)) == {features.HEIGHT}


def test_one_identity_that_takes_over_a_span_is_drift(tmp_path, first):
    span = [*examples.images(2, identities=5), *examples.images(3, identities=1, each=60)]
    second = examples.statistics(str(tmp_path), span)
    assert _drifted(_distances(tmp_path, second, first)) == {features.IDENTITY}


def test_a_feature_that_cannot_be_compared_is_named(tmp_path, first):
    span = [{k: v for k, v in one.items() if k != features.INK} for one in examples.images(2)]
    rows = _distances(tmp_path, examples.statistics(str(tmp_path), span), first)
    assert [row["feature"] for row in rows if row["verdict"] == findings.NOT_COMPARED] == [
        features.INK
    ]


def test_a_configuration_that_arrives_as_json_text_is_read(tmp_path, first):
    text = json_format.MessageToJson(comparators.config())
    assert len(_distances(tmp_path, first, first, text)) == len(features.STATISTICS)


def test_nothing_is_left_beside_the_anomalies(tmp_path, first):
    examples.validate_drift(str(tmp_path), first, first)
    assert os.listdir(tmp_path) == ["drift"]


def test_a_threshold_of_one_lets_everything_pass(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.inverted(examples.images(2)))
    config = comparators.config({features.INK: 1, features.BRIGHTNESS: 1.0})
    assert _drifted(_distances(tmp_path, second, first, config)) == set()


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"image/inc": 0.1}, "did you mean 'image/ink'"),
        ({"image/ink": 1.1}, r"number in \[0, 1\]"),
        ({"image/ink": "0.1"}, r"number in \[0, 1\]"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(thresholds, words):
    with pytest.raises(errors.UsageError, match=words):
        comparators.config(thresholds)


_QUANTILES = strategies.lists(strategies.integers(0, 30), min_size=2, max_size=12).map(
    lambda ends: [(a, b, 1.0) for a, b in itertools.pairwise(sorted(ends))]
)


@hypothesis.given(first=_QUANTILES, second=_QUANTILES)
def test_common_buckets_keep_every_image_of_both_sides(first, second):
    shares = buckets._common_shares(first, second)
    assert len(shares[0]) == len(shares[1])
    assert [sum(side) for side in shares] == pytest.approx([1.0, 1.0])


@hypothesis.given(first=_QUANTILES, second=_QUANTILES)
def test_common_buckets_do_not_depend_on_the_scale(first, second):
    def scaled(quantiles):
        return [(low * 8, high * 8, count) for low, high, count in quantiles]

    ones, others = (
        buckets._common_shares(first, second),
        buckets._common_shares(scaled(first), scaled(second)),
    )
    assert [*ones[0], *ones[1]] == pytest.approx([*others[0], *others[1]])

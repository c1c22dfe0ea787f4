"""DistributionValidator finds injected drift and leaves odd images and new identities alone."""

import os

import pytest
from google.protobuf import json_format

from longtail.components.data import features
from longtail.components.data import samples
from longtail.components.distribution_validator import comparators
from longtail.components.drift import calibration
from longtail.components.drift import overlap
from longtail.components.drift import rows as rows_lib
from longtail.components.drift_gate import anomalies as anomalies_lib
from longtail.models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return examples.statistics(str(tmp_path_factory.mktemp("first")), examples.images(1))


def _distances(folder, current, baseline, config=None, thresholds=None):
    anomalies, _ = examples.validate_drift(str(folder), current, baseline, config, thresholds)
    return anomalies_lib.distances(anomalies[0].uri)


def _drifted(rows):
    return {row["feature"] for row in rows if row["verdict"] != rows_lib.OK}


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
    assert [row["feature"] for row in rows if row["verdict"] == rows_lib.NOT_COMPARED] == [features.INK]


def test_a_configuration_that_arrives_as_json_text_is_read(tmp_path, first):
    text = json_format.MessageToJson(comparators.config({}))
    assert len(_distances(tmp_path, first, first, text)) == len(features.STATISTICS)


def test_nothing_is_left_beside_the_anomalies(tmp_path, first):
    examples.validate_drift(str(tmp_path), first, first)
    assert sorted(os.listdir(tmp_path)) == ["drift", "report"]


def test_a_threshold_of_one_lets_everything_pass(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.inverted(examples.images(2)))
    thresholds = {features.INK: 1, features.BRIGHTNESS: 1.0}
    assert _drifted(_distances(tmp_path, second, first, thresholds=thresholds)) == set()


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"image/inc": 0.1}, "did you mean 'image/ink'"),
        ({"image/ink": 1.1}, "image/ink must be a number from 0 to 1, not"),
        ({"image/ink": "0.1"}, "image/ink must be a number from 0 to 1, not"),
    ],
)
def test_a_threshold_that_cannot_be_is_refused(thresholds, words):
    with pytest.raises(errors.UsageError, match=words):
        comparators.config(thresholds)


def test_the_default_threshold_shrinks_with_the_number_of_identities(tmp_path):
    reached = []
    for count in (8, 20, 80):
        one, two = (
            samples.read_table(
                examples.sample_of(
                    examples.statistics(str(tmp_path / f"{count}-{seed}"), examples.images(seed, count, each=3))
                )[0].uri
            )
            for seed in (1, 2)
        )
        reached.append(calibration.thresholds(one, two)[features.INK])
    assert reached[0] > reached[1] > reached[2] >= calibration.FLOOR


def test_a_threshold_of_the_recipe_is_not_calibrated(tmp_path, first):
    second = examples.statistics(str(tmp_path), examples.images(2))
    rows = _distances(tmp_path / "report", second, first, thresholds={features.INK: 0.01})
    assert {row["threshold"] for row in rows if row["feature"] == features.INK} == {0.01}


def test_identities_gone_are_found_in_spans_larger_than_their_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "TABLE_ROWS", 100)
    spans = []
    for number, kept in ((1, 200), (2, 100)):
        rows = examples.images(number, kept, prefix="who")
        same = [{**row, features.IDENTITY: row[features.IDENTITY].replace(b"who2", b"who1")} for row in rows]
        examples.ingested(str(tmp_path / f"{number}" / "examples"), same)
        examples.draw_sample(str(tmp_path / f"{number}"), str(tmp_path / f"{number}" / "examples"))
        spans.append(samples.read_table(str(tmp_path / f"{number}" / "sample")))
    assert len(spans[0].digest) < 200
    assert {row["feature"]: row for row in overlap.rows(spans[1], spans[0], {})[0]}[overlap.GONE]["distance"] == 0.5

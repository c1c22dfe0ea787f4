"""DistributionValidator finds planted drift and leaves odd images and new identities alone."""

import dataclasses
import itertools
import os

import hypothesis
import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import strategies

from longtail.components.data import features
from longtail.components.data import samples
from longtail.components.distribution_validator import comparators
from longtail.components.drift import buckets
from longtail.components.drift import calibration
from longtail.components.drift import overlap
from longtail.components.drift_gate import findings
from longtail.models import errors
from tests.components import examples


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return examples.statistics(str(tmp_path_factory.mktemp("first")), examples.images(1))


def _distances(folder, current, baseline, config=None, thresholds=None):
    anomalies, _ = examples.validate_drift(str(folder), current, baseline, config, thresholds)
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
    assert [row["feature"] for row in rows if row["verdict"] == findings.NOT_COMPARED] == [features.INK]


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


def _table(identities, each, start=0, folder=0):
    """A Table of `each` images of the identities that are numbered, all images different from `start` on."""
    identity = np.repeat(np.array(identities, np.uint64), each)
    folders = np.full(len(identity), folder, np.uint64)
    digest = np.arange(start, start + len(identity)).astype(np.uint64)
    return samples.Table(identity, folders, digest, np.zeros((len(identity), len(samples.COLUMNS)), np.float32))


def _joined(*tables):
    columns = ("identity", "folder", "digest", "values")
    return samples.Table(*(np.concatenate([getattr(one, name) for one in tables]) for name in columns))


def _rows(current, baseline, **more):
    """Feature -> row."""
    return {row["feature"]: row for row in overlap.rows(current, baseline, {}, **more)[0]}


ACCEPTED = _table(range(60), 5)
PLANTED = {
    overlap.GONE: (_table(range(45), 5, 1000), ACCEPTED),
    overlap.SHARES: (_joined(_table(range(300), 15, 1e5), _table(range(15), 75, 2e5)), _table(range(300), 20)),
    overlap.LARGEST: (_joined(_table(range(300), 4, 1e5), _table(range(25), 12, 2e5)), _table(range(300), 5)),
    overlap.REPEATED: (_joined(_table(range(45), 5, 1000), _table(range(45, 60), 5, 225)), ACCEPTED),
    overlap.COPIES: (_joined(_table(range(60), 5, 1000), _table(range(15), 5, 1000)), ACCEPTED),
    overlap.FOLDERS: (
        _joined(_table(range(45), 5, 1000, folder=1), _table(range(90, 105), 5, 2000, folder=2)),
        _table(range(60), 5, folder=1),
    ),
}


@pytest.mark.parametrize("feature", PLANTED)
def test_a_quarter_of_a_span_planted_is_found(feature):
    rows = _rows(*PLANTED[feature])
    assert rows[feature]["verdict"] == findings.DRIFTED and rows[feature]["kind"] == findings.DATA


@pytest.mark.parametrize(
    "current",
    [_table(range(60), 5, 1000), _table(range(100, 160), 5, 1000), _table(range(60), 1, 1000)],
    ids=["new images", "new identities", "one image each"],
)
def test_clean_spans_are_no_drift_as_a_whole(current):
    assert not [row for row in _rows(current, ACCEPTED).values() if row["verdict"] != findings.OK]


def test_images_drawn_at_random_leave_identities_out_by_chance():
    chosen = np.random.default_rng(0).permutation(300)[:60]
    few = samples.Table(*(getattr(ACCEPTED, name)[chosen] for name in ("identity", "folder", "digest", "values")))
    rows = _rows(few, ACCEPTED, same_span=True)
    assert rows[overlap.GONE]["distance"] > 0.2 and rows[overlap.GONE]["verdict"] == findings.OK


def test_the_span_that_takes_its_own_place_may_bring_its_images_again():
    assert overlap.REPEATED not in _rows(ACCEPTED, ACCEPTED, same_span=True)


def test_tables_of_parts_are_compared_where_both_would_hold_an_image():
    half = ACCEPTED.below(np.uint64(149))
    rows = _rows(ACCEPTED, half)
    assert rows[overlap.REPEATED]["distance"] == 1.0


def _drawn(seed, share):
    """A Table of one image for each identity drawn, all images different."""
    drawn = np.random.default_rng(seed).choice(len(share), 3000, p=share / share.sum())
    return _table(drawn, 1, 10_000 * (seed + 1))


@pytest.mark.parametrize("seed", range(3))
def test_two_draws_of_one_long_tail_are_no_drift(seed):
    share = 1 / np.arange(1.0, 1001)
    rows = _rows(_drawn(seed, share), _drawn(seed + 10, share))
    assert rows[overlap.GONE]["distance"] > 0.2
    assert {row["verdict"] for row in rows.values()} == {findings.OK}


def test_half_of_a_long_tail_gone_is_found():
    share = 1 / np.arange(1.0, 1001)
    rows = _rows(_drawn(0, share * (np.arange(1000) % 2)), _drawn(1, share))
    assert rows[overlap.GONE]["verdict"] == findings.DRIFTED


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
    assert _rows(spans[1], spans[0])[overlap.GONE]["distance"] == 0.5


def test_one_image_in_no_folder_does_not_hide_new_folders():
    new = _joined(_table(range(90, 150), 5, 1000, folder=2), _table([200], 1, 2000))
    rows = _rows(new, _table(range(60), 5, folder=1))
    assert rows[overlap.FOLDERS]["distance"] == 1.0 and rows[overlap.FOLDERS]["verdict"] == findings.DRIFTED


def test_identities_in_no_folder_on_both_sides_make_no_row_of_folders():
    assert overlap.FOLDERS not in _rows(_table(range(60), 5, 1000), ACCEPTED)


def test_many_new_identities_do_not_hide_that_others_are_gone():
    new = _joined(_table(range(24), 5, 1000), _table(range(100, 145), 5, 2000))
    assert _rows(new, ACCEPTED)[overlap.GONE]["verdict"] == findings.DRIFTED


def test_where_identities_are_new_a_note_says_that_nobody_asked_who_is_gone():
    rows, note = overlap.rows(_table(range(100, 160), 5, 1000), ACCEPTED, {})
    assert overlap.GONE not in {row["feature"] for row in rows}
    assert "who is gone was not asked" in note and "\n" not in note


def _lit(identities, seed, dark):
    """A Table of ten images of each identity, all features at 0.8, but a share of the images at 0.2."""
    rng = np.random.default_rng(seed)
    table = _table(range(identities), 10, 1000 * seed)
    level = np.where(rng.random(len(table.identity)) < dark, 0.2, 0.8) + rng.normal(0, 0.05, len(table.identity))
    return dataclasses.replace(table, values=np.repeat(level[:, np.newaxis], len(samples.COLUMNS), axis=1))


@pytest.mark.parametrize("identities", [2, 5, 8, 12, 15, 40])
def test_images_darkened_are_found_with_few_identities_too(identities):
    tables = _lit(identities, 1, 0.9), _lit(identities, 2, 0.0)
    values, is_new = np.concatenate([table.values[:, 0] for table in tables]), np.repeat([1, 0], 10 * identities)
    [distance] = calibration.divergences(values, is_new, np.array([[False, True]]))
    assert distance > calibration.thresholds(*tables)[features.BRIGHTNESS]


def test_a_note_says_that_thresholds_are_fixed_for_few_identities():
    assert str(calibration.FIXED) in calibration.note(_lit(5, 1, 0.0), _lit(5, 2, 0.0))
    assert not calibration.note(_lit(40, 1, 0.0), _lit(40, 2, 0.0))

"""A span's sample is the same whenever it is drawn, bounded, and alike for spans that share what is in them."""

import os

import numpy as np
import pytest

from longtail.components.data import features
from longtail.components.data import samples
from longtail.components.data import tables
from longtail.components.span_sampler import component
from longtail.models import errors
from tests.components import examples


def draw(folder, train, images=1000, evaluation=()):
    examples.ingested(os.path.join(folder, "examples"), train, list(evaluation))
    examples.draw_sample(str(folder), os.path.join(folder, "examples"), images)
    return os.path.join(folder, "sample")


def identities(folder):
    return samples.read_images(folder)[1].tolist()


def test_the_same_images_in_another_order_give_the_same_sample(tmp_path):
    span = examples.images(1)
    one = draw(tmp_path / "one", span, 80)
    two = draw(tmp_path / "two", span[::-1], 80)
    assert samples.read_images(one)[0].tolist() == samples.read_images(two)[0].tolist()


def test_a_sample_is_bounded_and_of_whole_identities(tmp_path):
    found = identities(draw(tmp_path, examples.images(1, identities=20, each=5), 80))
    assert len(found) == 40
    assert {found.count(name) for name in found} == {5}


def test_no_identity_fills_a_sample_where_there_are_others(tmp_path):
    span = [*examples.images(1, identities=1, each=60), *examples.images(2, identities=19, each=3)]
    found = identities(draw(tmp_path, span, 80))
    assert max(found.count(name) for name in found) <= samples.IMAGES_EACH


def test_few_identities_give_more_images_each(tmp_path):
    assert len(identities(draw(tmp_path, examples.images(1, identities=2, each=30), 80))) == 40


def test_spans_that_share_identities_are_sampled_by_the_same_ones(tmp_path):
    one = draw(tmp_path / "one", examples.images(1, identities=40, prefix="who"), 100)
    again = [
        {**row, features.SHA256: row[features.SHA256][::-1]} for row in examples.images(1, identities=40, prefix="who")
    ]
    assert set(identities(one)) == set(identities(draw(tmp_path / "two", again, 100)))


def test_a_file_that_is_there_twice_is_in_the_sample_once_and_in_the_table_twice(tmp_path):
    folder = draw(tmp_path, [*examples.images(1), *examples.images(1)])
    assert len(identities(folder)) == 100
    assert len(samples.read_table(folder).digest) == 200


def test_a_table_is_bounded_by_digests_that_any_span_would_take(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "TABLE_ROWS", 30)
    table = samples.read_table(draw(tmp_path, examples.images(1)))
    assert len(table.digest) == 31 and table.limit == table.digest.max()


def test_a_bounded_table_counts_all_images_of_all_identities(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "TABLE_ROWS", 30)
    table = samples.read_table(draw(tmp_path, [*examples.images(1, 20, 5), *examples.images(2, 1, 7)]))
    assert sorted(table.counts.tolist()) == [5] * 20 + [7]
    assert set(table.identity.tolist()) <= set(table.names.tolist())


def test_a_table_knows_the_top_folder_of_an_identity(tmp_path):
    span = [{**row, features.IDENTITY: b"greek/" + row[features.IDENTITY]} for row in examples.images(1)]
    table = samples.read_table(draw(tmp_path, span))
    assert set(table.folder.tolist()) == set(table.folders.tolist()) == {int(samples.hash_of(b"greek"))}


def test_a_feature_that_is_missing_is_nan_in_the_table(tmp_path):
    span = [{key: value for key, value in row.items() if key != features.INK} for row in examples.images(1)]
    values = samples.read_table(draw(tmp_path, span)).values
    assert np.isnan(values[:, tables.COLUMNS.index(features.INK)]).all()


def test_half_of_a_sample_is_held_out(tmp_path):
    others = [{**row, features.SPLIT: features.GALLERY} for row in examples.images(2)]
    folder = draw(tmp_path, examples.images(1), 60, others)
    assert samples.read_images(folder)[2].sum() == 30
    assert len(identities(folder)) == 60 and len(samples.read_table(folder).digest) == 100


def test_too_small_a_sample_is_refused_before_anything_runs():
    with pytest.raises(errors.UsageError, match="drift.sample must be a whole number from 40 to .*, not 5"):
        component.SpanSampler(None, 5)

"""EmbeddingDrift finds what no scalar shows, leaves clean spans alone, and says where it cannot compare."""

import dataclasses
import hashlib
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components.data import features
from longtail.components.data import glyphs
from longtail.components.data import images
from longtail.components.data import samples
from longtail.components.data import sources
from longtail.components.drift import distances
from longtail.components.drift import permutation
from longtail.components.drift_gate import findings
from longtail.components.embedding_drift import executor
from longtail.components.image_example_gen import steps
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from tests.components import examples

GLYPHS = glyphs.GlyphSet(identities=40, head=40, head_images=4, size=16)


def turned(data):
    """The image upside down."""
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).rotate(180).save(file, "PNG")
    return file.getvalue()


def sample(folder, span, change=lambda data: data, glyph_set=GLYPHS):
    """A SpanSample of glyphs, as SpanSampler draws it."""
    os.makedirs(folder)
    path = os.path.join(folder, "examples.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for identity, count in glyphs.identities(glyph_set):
            for number in range(count):
                data = change(glyphs.draw(glyph_set, span, identity, number))
                item = sources.Item(f"{identity}/{number}.png", identity)
                digest = hashlib.sha256(data).hexdigest()
                writer.write(steps.to_example(item, images.check(data, 10**6), digest, "query").SerializeToString())
    samples.draw([], [path], str(folder / "sample"), 2000)
    return examples.artifact(artifacts.SpanSample, folder / "sample")


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs")
    return {
        "accepted": sample(folder / "accepted", 1),
        "clean": sample(folder / "clean", 2),
        "turned": sample(folder / "turned", 2, turned),
        "few": sample(folder / "few", 2, glyph_set=dataclasses.replace(GLYPHS, identities=3, head=3)),
    }


@pytest.fixture(scope="module")
def pixel_model(tmp_path_factory):
    """A model that sees the picture itself, coarsely: what it embeds near is what looks alike, with no training."""
    coarse = tf.keras.Sequential(
        [
            tf.keras.layers.AveragePooling2D(2, input_shape=(16, 16, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.LayerNormalization(),
        ]
    )
    folder = tmp_path_factory.mktemp("pixels") / "1"
    saved_model.export(coarse, preprocess.Preprocess((16, 16, 1)), str(folder))
    return folder


@pytest.fixture
def compare(tmp_path, spans, pixel_model):
    """Returns f(name) -> (rows, note) of the component's report."""

    model = examples.artifact(standard_artifacts.Model, tmp_path / "model")
    shutil.copytree(pixel_model, tmp_path / "model" / "Format-Serving")

    def run(name, cold_start=0, found=1, thresholds="{}"):
        model[0].set_int_custom_property("found", found)
        spans["accepted"][0].set_int_custom_property("cold_start", cold_start)
        report = examples.artifact(artifacts.DriftReport, tmp_path / "report")
        inputs = {"sample": spans[name], "baseline_sample": spans["accepted"], "baseline_model": model}
        executor.Executor().Do(inputs, {"report": report}, {"thresholds": thresholds})
        return findings.read_report(report[0].uri)

    return run


def test_images_upside_down_are_found(compare):
    rows, _ = compare("turned")
    assert "drifted" in {row["verdict"] for row in rows}
    assert [row["feature"] for row in rows] == list(features.EMBEDDING)
    assert {row["kind"] for row in rows} == {"embedding"}


def test_no_scalar_shows_images_upside_down(spans):
    one, two = (samples.read_table(spans[name][0].uri).values for name in ("clean", "turned"))
    kept = [samples.COLUMNS.index(name) for name in features.SCALARS if name != features.KILOBYTES]
    np.testing.assert_allclose(np.sort(one[:, kept], axis=0), np.sort(two[:, kept], axis=0), rtol=1e-4)


def test_new_images_of_the_same_identities_are_no_drift(compare):
    assert {row["verdict"] for row in compare("clean")[0]} == {"ok"}


def test_the_same_samples_give_the_same_report(compare):
    assert compare("turned") == compare("turned")


def test_a_recipes_threshold_stands(compare):
    thresholds = dict.fromkeys(features.EMBEDDING, 1.0)
    rows, _ = compare("turned", thresholds=json.dumps(thresholds))
    assert {(row["threshold"], row["verdict"]) for row in rows} == {(1.0, "ok")}


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("clean", {"cold_start": 1}, "no span was accepted before"),
        ("clean", {"found": 0}, "no model was blessed before"),
        ("few", {}, "the span has 12 held-out images of 3 identities"),
    ],
)
def test_where_nothing_can_be_compared_a_note_says_why(compare, name, state, words):
    rows, note = compare(name, **state)
    assert rows == [] and words in note and "\n" not in note


def test_the_energy_coefficient_is_its_definition():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(6, 3)), rng.normal(1.0, size=(9, 3))

    def mean(a, b):
        return np.mean([[np.linalg.norm(x - y) for y in b] for x in a])

    expected = (2 * mean(one, two) - mean(one, one) - mean(two, two)) / (2 * mean(one, two))
    group = np.repeat([0, 1, 2, 3, 4], 3)
    sides = np.array([[True, True, False, False, False]])
    found = distances.energies(np.concatenate([one, two]), group, sides)
    assert found == pytest.approx([expected])


def test_an_identity_in_both_spans_changes_sides_with_both_its_groups():
    identity = np.concatenate([np.arange(9), np.arange(9), 100 + np.arange(14)]).astype(np.uint64)
    is_new = np.concatenate([np.repeat([True, False], 9), np.repeat([True, False], 7)])
    group, sides, deals = permutation.deal(identity, is_new, 0, 50)
    first, second = group[0], group[9]
    assert (deals[:, first] != deals[:, second]).all()
    assert deals[:, first].any() and not deals[:, first].all()
    assert (deals.sum(axis=1) == sides.sum()).all()


def test_images_of_one_identity_are_never_parted():
    rng = np.random.default_rng(0)
    identity = rng.integers(0, 10, 60).astype(np.uint64)
    group, _, _ = permutation.deal(identity, np.arange(60) < 30, 0)
    pairs = {(one, new): number for one, new, number in zip(identity, np.arange(60) < 30, group, strict=True)}
    assert len(set(pairs.values())) == len(pairs)


def _clusters(identities, sign=1, seed=0):
    """Six unit vectors around a direction of each identity, or around the opposite one; and the identities."""
    centres = sign * np.random.default_rng(0).normal(size=(identities, 16))
    vectors = np.repeat(centres, 6, axis=0) + 0.2 * np.random.default_rng(seed).normal(size=(6 * identities, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(identities), 6).astype(np.uint64)


@pytest.mark.parametrize("identities", [12, 15, 20, 30])
def test_embeddings_turned_round_are_found_with_few_identities_too(identities):
    rows = distances.compare(*_clusters(identities, -1, 1), *_clusters(identities), {})
    own = [row["verdict"] for row in rows if row["feature"] == features.EMBEDDING_OWN]
    assert own == ["drifted"]


@pytest.mark.parametrize("identities", [5, 6, 8])
def test_where_chance_cannot_be_measured_there_is_no_verdict(identities):
    assert distances.compare(*_clusters(identities, -1, 1), *_clusters(identities), {}) == []


def test_a_recipes_threshold_holds_where_chance_cannot_be_measured():
    thresholds = {features.EMBEDDING_OWN: 0.3}
    rows = distances.compare(*_clusters(5, -1, 1), *_clusters(5), thresholds)
    assert [(row["feature"], row["verdict"]) for row in rows] == [(features.EMBEDDING_OWN, "drifted")]


def test_what_is_left_out_is_named():
    assert features.EMBEDDING_SHAPE in executor._left_out([])
    assert not executor._left_out([{"feature": name} for name in features.EMBEDDING])


def test_embeddings_that_are_not_finite_are_no_small_distance():
    vectors, identity = _clusters(20, 1, 1)
    vectors[7] = np.nan
    with pytest.raises(errors.WorkError, match="1 of 120 embeddings of the span"):
        distances.compare(vectors, identity, *_clusters(20), {})


def test_of_a_large_sample_the_first_images_are_embedded(compare, spans, monkeypatch):
    monkeypatch.setattr(executor, "MOST_IMAGES", 12)
    assert "has 12 held-out images of 3 identities" in compare("clean")[1]


@pytest.mark.parametrize("identities", [(12, 0), (0, 12), (6, 20)])
def test_no_deal_is_nearly_the_split_at_hand(identities):
    shared, others = identities
    identity = np.concatenate([np.arange(shared), np.arange(shared), 100 + np.arange(2 * others)]).astype(np.uint64)
    is_new = np.concatenate([np.repeat([True, False], shared), np.repeat([True, False], others)])
    _, sides, deals = permutation.deal(identity, is_new, 0)
    assert len(deals) > 100
    assert max(abs(np.corrcoef(sides, one)[0, 1]) for one in deals) <= 0.8


def test_a_few_identities_with_most_of_the_images_are_few():
    identity = np.concatenate([np.repeat(np.arange(3), 100), np.arange(3, 40)]).astype(np.uint64)
    both, is_new = np.tile(identity, 2), np.repeat([True, False], len(identity))
    assert permutation.exchangeable(both, is_new) < 5 and not len(permutation.deal(both, is_new, 0)[2])

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
from longtail.components import drift_report
from longtail.components.data import features
from longtail.components.data import glyphs
from longtail.components.data import images
from longtail.components.data import samples
from longtail.components.data import sources
from longtail.components.data import tables
from longtail.components.embedding_drift import executor
from longtail.components.image_example_gen import steps
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
                writer.write(steps.with_split(steps.features_of(item, images.check(data, 10**6), digest), b"query"))
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
        return drift_report.read(report[0].uri)

    return run


def test_images_upside_down_are_found(compare):
    rows, _ = compare("turned")
    assert "drifted" in {row["verdict"] for row in rows}
    assert [row["feature"] for row in rows] == list(features.EMBEDDING)
    assert {row["kind"] for row in rows} == {"embedding"}


def test_no_scalar_shows_images_upside_down(spans):
    one, two = (samples.read_table(spans[name][0].uri).values for name in ("clean", "turned"))
    kept = [tables.COLUMNS.index(name) for name in features.SCALARS if name != features.KILOBYTES]
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


def test_what_is_left_out_is_named():
    assert features.EMBEDDING_SHAPE in executor._left_out([])
    assert not executor._left_out([{"feature": name} for name in features.EMBEDDING])


def test_of_a_large_sample_the_first_images_are_embedded(compare, spans, monkeypatch):
    monkeypatch.setattr(executor, "MOST_IMAGES", 12)
    assert "has 12 held-out images of 3 identities" in compare("clean")[1]

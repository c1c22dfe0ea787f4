"""Skew is found between training and what a real server was asked about, and only where there is some."""

import io
import json

import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from longtail.components import artifacts
from longtail.components import drift_report
from longtail.components.data import features
from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.components.drift import rows as rows_lib
from longtail.components.serving_skew import component
from longtail.components.serving_skew import executor
from longtail.components.serving_skew import requests
from longtail.components.span_sampler import executor as span_sampler
from longtail.models import config
from longtail.models import errors
from longtail.serving import client
from longtail.serving.model_server import request_log
from longtail.serving.model_server import server as server_lib
from tests.components import examples
from tests.components import ingestion


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    root = tmp_path_factory.mktemp("ingested")
    glyph_source.write_folder(glyphs.GlyphSet(60, 20, 12, 4, 24, 0), 1, str(root / "data"))
    return ingestion.ingest(root, str(root / "data"))


@pytest.fixture(scope="module")
def sample(ingested, tmp_path_factory):
    """The span's SpanSample, as its component leaves it."""
    result = examples.artifact(artifacts.SpanSample, tmp_path_factory.mktemp("sample") / "drawn")
    span_sampler.Executor().Do({"examples": [ingested.examples]}, {"sample": result}, {"images": 1000})
    return result


@pytest.fixture(scope="module")
def images(ingested):
    """The span's own train images, encoded."""
    return [row[features.ENCODED] for row in ingested.rows("train")]


@pytest.fixture(scope="module")
def asked(tiny_saved_model, tmp_path_factory):
    """Returns f(images) -> folder of the request log of a server that was asked about them."""

    def ask(contents):
        folder = str(tmp_path_factory.mktemp("log"))
        logged = request_log.Options(folder)
        options = server_lib.Options(str(tiny_saved_model), grpc_port=0, rest_port=0, request_log=logged)
        with server_lib.ModelServer(options) as server, client.Client(server.grpc_address, "tiny") as opened:
            opened.embed(contents)
        return folder

    return ask


@pytest.fixture(scope="module")
def same_log(asked, images):
    return asked(images)


def darkened(encoded):
    """The image at 0.4 of its brightness, a PNG too."""
    file = io.BytesIO()
    Image.open(io.BytesIO(encoded)).point(lambda value: int(0.4 * value)).save(file, "PNG")
    return file.getvalue()


def compare(sample, folder, tmp_path, **parameters):
    """Rows and note of the component's report on a request log."""
    report = examples.artifact(artifacts.DriftReport, tmp_path / "report")
    given = {"listing": "", "max_pixels": config.MAX_PIXELS, "thresholds": "{}", **parameters}
    made = component.ServingSkew(sample=channel(sample), request_log=str(folder), **given)
    executor.Executor().Do({"sample": sample}, {"report": report}, made.exec_properties)
    return drift_report.read(report[0].uri)


def channel(found):
    from tfx.types import channel_utils

    return channel_utils.as_channel(found)


def drifted(rows):
    return {row["feature"] for row in rows if row["verdict"] != rows_lib.OK}


def write_log(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def test_a_server_asked_about_darkened_images_shows_skew(sample, images, asked, tmp_path):
    rows, _ = compare(sample, asked([darkened(image) for image in images]), tmp_path)
    assert {features.BRIGHTNESS, features.INK} <= drifted(rows)
    assert {row["kind"] for row in rows} == {rows_lib.SKEW}


def test_a_server_asked_about_the_same_images_shows_none(sample, same_log, images, tmp_path):
    rows, note = compare(sample, same_log, tmp_path)
    assert drifted(rows) == set() and sorted(row["feature"] for row in rows) == sorted(executor.COMPARED)
    assert f"{len(images)} images" in note


def test_a_server_asked_about_other_images_of_the_same_kind_shows_none(sample, asked, tmp_path):
    glyph_source.write_folder(glyphs.GlyphSet(60, 20, 12, 4, 24, 0), 2, str(tmp_path / "data"))
    others = [path.read_bytes() for path in sorted((tmp_path / "data").rglob("*.png"))]
    rows, _ = compare(sample, asked(others), tmp_path)
    assert drifted(rows) == set()


def test_the_distances_come_with_both_distributions(sample, same_log, tmp_path):
    rows, _ = compare(sample, same_log, tmp_path)
    for row in rows:
        found = row["histogram"]
        assert len(found["ends"]) == len(found["current"]) + 1
        assert sum(found["current"]) == pytest.approx(1) and sum(found["baseline"]) == pytest.approx(1)


def test_a_threshold_of_the_recipe_holds_for_skew_too(sample, images, asked, tmp_path):
    chosen = json.dumps(dict.fromkeys(executor.COMPARED, 1.0))
    rows, _ = compare(sample, asked([darkened(image) for image in images[:40]]), tmp_path, thresholds=chosen)
    assert drifted(rows) == set()


def test_without_a_request_log_there_are_no_rows(sample, tmp_path):
    assert compare(sample, "", tmp_path) == ([], "")


def test_too_few_requests_are_not_compared_and_said(sample, images, asked, tmp_path):
    rows, note = compare(sample, asked(images[:5]), tmp_path)
    assert rows == [] and "5 images" in note and "20 are needed" in note


def test_a_damaged_file_is_set_aside_and_said_and_the_others_are_read(sample, same_log, tmp_path):
    tf.io.gfile.makedirs(str(tmp_path / "log"))
    for path in tf.io.gfile.glob(f"{same_log}/*"):
        tf.io.gfile.copy(path, str(tmp_path / "log" / "a.tfrecord"))
    (tmp_path / "log" / "b.tfrecord").write_bytes((tmp_path / "log" / "a.tfrecord").read_bytes()[:-100])
    (tmp_path / "log" / "c.txt").write_text("a note of somebody's")
    rows, note = compare(sample, tmp_path / "log", tmp_path)
    assert rows
    assert "b.tfrecord set aside after" in note and "c.txt set aside after 0 images (damaged, or no TFRecord" in note
    assert "a.tfrecord" not in note


def test_a_log_of_something_else_is_failed_work_that_says_what_to_do(sample, tmp_path):
    tf.io.gfile.makedirs(str(tmp_path / "log"))
    write_log(tmp_path / "log" / "other.tfrecord", prediction_log_pb2.PredictionLog().SerializeToString())
    with pytest.raises(errors.WorkError, match="other.tfrecord set aside .*no image_bytes.* run without") as raised:
        compare(sample, tmp_path / "log", tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, {}, {"requests-1.tfrecord.partial": b"half"}])
def test_a_folder_without_a_complete_file_is_bad_usage(tmp_path, content):
    folder = tmp_path / "log"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(errors.UsageError, match="is no folder; give" if content is None else "holds no file; give"):
        requests.files(str(folder))


def test_only_the_newest_images_are_looked_at(sample, asked, images, tmp_path):
    folder = asked([darkened(image) for image in images])
    for path in tf.io.gfile.glob(f"{folder}/*"):
        tf.io.gfile.rename(path, f"{folder}/requests-19700101T000000-old.tfrecord")
    newer = asked([darkened(image) for image in images[:40]] + images[:40])  # one file, the plain ones later
    for path in tf.io.gfile.glob(f"{newer}/*"):
        tf.io.gfile.copy(path, f"{folder}/{path.rpartition('/')[2]}")
    rows, note = compare(sample, folder, tmp_path, images=40)
    assert "40 images" in note and drifted(rows) == set()


def test_another_state_of_the_folder_has_another_listing(same_log, tmp_path):
    before = requests.listing(same_log)
    write_log(f"{same_log}/requests-19700101T000000-more.tfrecord", b"")
    assert requests.listing(same_log) != before
    tf.io.gfile.remove(f"{same_log}/requests-19700101T000000-more.tfrecord")
    assert requests.listing(same_log) == before and requests.listing("") == ""

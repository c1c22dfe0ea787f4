"""The rebalancer on a window of spans: one image is one, ids append, and who is withdrawn is passed over."""

import pathlib

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import ledger
from longtail.components.data import features
from longtail.components.rebalancer import census
from longtail.components.rebalancer import executor
from longtail.models import errors
from tests.components import examples

PROPERTIES = {
    "strategy": "none", "head": 0, "tail_images": 0, "tail_classes": 0, "tail_cameras": 0, "cap": 0,
    "repeat_to": 0, "seed": 0, "leap_variant": "none", "head_threshold": 10,
}  # fmt: skip


def images(counts, seed):
    return [examples.image(name, n, seed) for name, count in counts.items() for n in range(count)]


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """Three spans: the second has a new identity, and one image of "b" again; the third one that sorts first."""
    folder = tmp_path_factory.mktemp("spans")
    rows = (
        images({"b": 3, "c": 2}, 1),
        [*images({"b": 1}, 1), *images({"b": 2, "d": 1}, 2)],
        images({"a": 2, "c": 1}, 3),
    )
    return [examples.ingested(folder / str(number), train)[0] for number, train in enumerate(rows, 1)]


def rebalance(folder, *sources, withdrawals=examples.NOBODY, **sizes):
    """Runs the real executor; returns the census, and the artifact."""
    outputs = {
        "rebalanced_examples": examples.artifact(standard_artifacts.Examples, folder / "rebalanced"),
        "census": examples.artifact(artifacts.ClassCensus, folder / "census"),
    }
    inputs = {"window": examples.window(folder / "window", *sources, withdrawals=withdrawals)}
    executor.Executor(examples.beam_context(folder)).Do(inputs, outputs, {**PROPERTIES, **sizes})
    return census.read_census(outputs["census"][0].uri), outputs["rebalanced_examples"][0]


def column(found, key):
    return {one["identity"]: one[key] for one in found["classes"]}


def test_class_ids_of_a_window_that_grows_never_change(tmp_path, spans):
    found = [column(rebalance(tmp_path / str(n), *spans[:n])[0], "class_id") for n in (1, 2, 3)]
    assert found == [{"b": 0, "c": 1}, {"b": 0, "c": 1, "d": 2}, {"b": 0, "c": 1, "d": 2, "a": 3}]


def test_a_camera_that_a_later_span_says_is_known_and_of_two_the_lower_one_counts(tmp_path):
    """The head is "h"; of "t" the first span knows no camera, the second says 1 for half of its images, the third 2."""
    cameras = ([-1] * 4, [1, 1, -1, -1], [2] * 4)
    sources = []
    for number, of in enumerate(cameras, 1):
        rows = [examples.image("h", n, camera=0) for n in range(5)]
        rows += [examples.image("t", n, camera=camera) for n, camera in enumerate(of)]
        sources.append(examples.ingested(tmp_path / str(number), rows)[0])
    sizes = {"strategy": "carve", "head": 1, "tail_images": 4, "tail_cameras": 1}
    found, artifact = rebalance(tmp_path, *sources, **sizes)
    [tail] = (one for one in found["classes"] if one["identity"] == "t")
    assert (tail["available"], tail["images"]) == (4, 2) and tail["cameras"] in ([1], [2])
    assert [one["new_images"] for one in found["spans"]] == [9, 0, 0]
    written = tf.data.TFRecordDataset(tf.io.gfile.glob(f"{artifact.uri}/Split-train/*"), "GZIP").as_numpy_iterator()
    rows = [tf.train.Example.FromString(record).features.feature for record in written]
    of_tail = [row for row in rows if row[features.IDENTITY].bytes_list.value[0] == b"t"]
    assert [row[features.CAMERA].int64_list.value[0] for row in of_tail] == tail["cameras"] * 2
    with pytest.raises(errors.UsageError, match="of 2 of 9 images to train on the camera is unknown"):
        rebalance(tmp_path / "less", *sources[:2], **sizes)


def test_the_same_file_in_two_spans_is_one_image_and_each_span_says_what_is_new_in_it(tmp_path, spans):
    found, artifact = rebalance(tmp_path, *spans)
    assert column(found, "images") == {"b": 5, "c": 3, "d": 1, "a": 2}
    assert found["spans"] == [
        {"span": 1, "new_images": 5, "new_identities": 2},
        {"span": 2, "new_images": 3, "new_identities": 1},
        {"span": 3, "new_images": 3, "new_identities": 1},
    ]
    assert artifact.span == 3


def test_two_spans_give_the_same_bytes_again_although_they_share_paths(tmp_path, spans):
    contents = []
    for run in ("one", "two"):
        _, artifact = rebalance(tmp_path / run, *spans)
        contents.append([path.read_bytes() for path in sorted(pathlib.Path(artifact.uri).rglob("*.gz"))])
    assert contents[0] == contents[1]


def test_of_a_withdrawn_identity_nothing_is_counted_or_written(tmp_path, spans):
    gone = ledger.Withdrawals("salt", frozenset([ledger.digest("salt", "c")]))
    found, artifact = rebalance(tmp_path, *spans, withdrawals=gone)
    assert set(column(found, "images")) == {"a", "b", "d"}
    assert column(found, "number") == {"b": 0, "d": 2, "a": 3}
    assert column(found, "class_id") == {"b": 0, "d": 1, "a": 2}
    files = [str(path) for path in pathlib.Path(artifact.uri).rglob("*.gz")]
    records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
    parsed = (tf.train.Example.FromString(record).features.feature for record in records)
    assert {one[features.IDENTITY].bytes_list.value[0] for one in parsed} == {b"a", b"b", b"d"}

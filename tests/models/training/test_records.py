"""Encoded images on disk, and a training set read from there."""

import tracemalloc

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.training import data as training_data
from longtail.models.training import records

PATHS = [b"a/0_y0.png", b"b/1_y-30.png", b"a/2.png", b"b/3_y90.png"]
RECORDS = [b"a", b"", b"\0" * 3, b"longer than the others\0"]


def test_records_come_back_in_order_by_rows_masks_and_slices():
    found = records.Records.write(iter(RECORDS))
    assert list(found) == RECORDS and len(found) == 4
    assert list(found[np.array([3, 0, 3])]) == [RECORDS[3], RECORDS[0], RECORDS[3]]
    assert list(found[np.array([True, False, True, False])]) == [RECORDS[0], RECORDS[2]]
    assert np.asarray(found[1:3]).tolist() == RECORDS[1:3]


def test_the_bytes_of_records_are_not_in_memory():
    tracemalloc.start()
    found = records.Records.write(bytes(1_000_000) for _ in range(50))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000 and peak < 5_000_000 and len(found) == 50


def _shards(folder):
    """Two files of rebalanced examples: eight images of two classes."""
    rng = np.random.default_rng(0)
    for shard in range(2):
        with tf.io.TFRecordWriter(str(folder / f"data-{shard}.gz"), "GZIP") as writer:
            for number in range(4):
                png = tf.io.encode_png(rng.integers(0, 256, (8, 8, 1), np.uint8)).numpy()
                values = {
                    "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                    "image/path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[PATHS[number]])),
                    "class_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 2])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())
    return [str(folder / "data-*.gz")], {"classes": [{"images": 4}, {"images": 4}]}


@pytest.mark.parametrize("images_per_class, cache_megabytes", [(0, 1), (2, 0)])
def test_batches_from_disk_are_those_from_memory(tmp_path, images_per_class, cache_megabytes):
    on_disk = training_data.read_training_set(*_shards(tmp_path))
    in_memory = training_data.TrainingSet(np.asarray(on_disk.encoded), on_disk.class_ids, on_disk.counts)
    training = config.Training(batch=4, epochs=3, images_per_class=images_per_class, cache_megabytes=cache_megabytes)
    settings = config.TrainConfig(model=config.Model(image=(8, 8, 1)), training=training)
    decode = preprocess.Preprocess((8, 8, 1))
    pairs = [training_data.batches(data, decode, settings, first_epoch=1)[0] for data in (on_disk, in_memory)]
    for ((images, labels), _), ((others, theirs), _) in zip(*pairs, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, theirs)


def test_a_file_that_is_cut_short_is_named(tmp_path):
    patterns, census = _shards(tmp_path)
    whole = (tmp_path / "data-1.gz").read_bytes()
    (tmp_path / "data-1.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.WorkError, match="data-1.gz: damaged or cut short"):
        training_data.read_training_set(patterns, census)


def test_yaw_is_read_from_the_paths_and_unknown_where_they_say_none(tmp_path):
    patterns, census = _shards(tmp_path)
    found = training_data.read_training_set(patterns, census, r"_y(-?\d+)")
    np.testing.assert_array_equal(found.yaw, [0, -30, np.nan, 90] * 2)
    assert training_data.read_training_set(patterns, census).yaw is None


@pytest.mark.parametrize(
    ("pattern", "told"),
    [(r"_q(\d+)", "finds nothing in any path, such as b/3_y90.png"), (r"_(y-?\d+)", "finds 'y0' in a/0_y0.png")],
)
def test_a_pattern_that_finds_no_degrees_is_told_with_a_path(tmp_path, pattern, told):
    with pytest.raises(errors.WorkError, match=f"transfer.yaw_pattern .*{told}"):
        training_data.read_training_set(*_shards(tmp_path), pattern)


def test_what_is_held_out_takes_its_yaw_along(tmp_path):
    read = training_data.read_training_set(*_shards(tmp_path), r"_y(-?\d+)")
    settings = config.TrainConfig(training=config.Training(held_out=1), leap=config.Leap(head_threshold=2))
    kept, is_held = training_data.hold_out(read, settings)
    assert is_held.sum() == 2
    np.testing.assert_array_equal(kept.yaw, read.yaw[~is_held])

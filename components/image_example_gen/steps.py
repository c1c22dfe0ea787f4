"""The Beam steps of ingestion. Each is picklable and holds nothing but what it was made with."""

import collections
import hashlib
import json
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf

from longtail.components.data import features
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.models import files

BAD = "bad"  # tag of the rows for the quarantine

# An image on its way: (split of the artifact, identity, path, sha256, serialised tf.Example).
Row = tuple[str, str, str, str, bytes]


class CheckImages(beam.DoFn):
    """Reads and judges files: `sources.Item` -> Row, or a quarantine row under the tag BAD."""

    def __init__(self, source: sources.Source, held_out: frozenset[str], max_pixels: int):
        """Takes the identities of eval; an item that states a split goes by that instead."""
        self._source = source
        self._held_out = held_out
        self._max_pixels = max_pixels
        # 16 bits, four channels, uncompressed, and room for metadata: honest images are smaller.
        self._max_bytes = 8 * max_pixels + 2**20

    def process(self, item: sources.Item) -> Iterator[Any]:
        size = None
        try:
            data = self._source.read(item, self._max_bytes)
            size = len(data)
            image = images.check(data, self._max_pixels)
        except (sources.ReadError, images.BadImage) as error:
            yield beam.pvalue.TaggedOutput(BAD, quarantine_row(item.path, str(error), size))
            return
        sha256 = hashlib.sha256(data).hexdigest()
        split = splits.output_split(item, self._held_out)
        side = features.TRAIN.decode() if split == features.TRAIN_SPLIT else item.split
        example = to_example(item, image, sha256, side)
        yield split, item.identity, item.path, sha256, example.SerializeToString(deterministic=True)


def quarantine_row(path: str, reason: str, size: int | None = None) -> dict:
    """A line of quarantine.jsonl; `bytes` is null where the file was not read."""
    return {"path": path, "reason": reason, "bytes": size}


def to_example(
    item: sources.Item, image: images.CheckedImage, sha256: str, side: str | None
) -> tf.train.Example:
    """The features of longtail.components.data.features; without `split` where `side` is still open."""
    height, width, _ = image.pixels.shape
    values: dict[str, bytes | int | float] = {
        features.ENCODED: image.encoded,
        features.FORMAT: image.format,
        features.HEIGHT: height,
        features.WIDTH: width,
        features.PATH: item.path.encode(),
        features.SHA256: sha256.encode(),
        features.IDENTITY: item.identity.encode(),
        features.CAMERA: item.camera,
        **images.scalars(image),
    }
    if side is not None:
        values[features.SPLIT] = side.encode()
    return tf.train.Example(
        features=tf.train.Features(feature={key: _feature(value) for key, value in values.items()})
    )


def _feature(value: bytes | int | float) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


class DivideIdentity(beam.DoFn):
    """Says which images of an identity ask and which answer: (identity, its Rows) -> Rows."""

    def __init__(self, query_fraction: float, seed: int):
        """See splits.queries."""
        self._query_fraction = query_fraction
        self._seed = seed

    def process(self, element: tuple[str, Iterable[Row]]) -> Iterator[Row]:
        _, rows = element
        rows = list(rows)
        found = [(path, sha256) for _, _, path, sha256, _ in rows]
        asking = splits.queries(found, self._query_fraction, self._seed)
        for split, identity, path, sha256, serialized in rows:
            side = features.QUERY if path in asking else features.GALLERY
            yield split, identity, path, sha256, with_split(serialized, side)


def with_split(serialized: bytes, side: bytes) -> bytes:
    """The serialised tf.Example with its `split` set."""
    example = tf.train.Example.FromString(serialized)
    example.features.feature[features.SPLIT].bytes_list.value[:] = [side]
    return example.SerializeToString(deterministic=True)


def shard_key(row: Row, shards: Mapping[str, int]) -> tuple[tuple[str, int], tuple[int, str, bytes]]:
    """((split, shard), (place in the shard, path, example)): both by a hash of the path."""
    split, _, path, _, serialized = row
    place = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1
    return (split, place % shards[split]), (place, path, serialized)


class WriteShard(beam.DoFn):
    """Writes one gzipped TFRecord file, its records in the order of their hashes."""

    def __init__(self, folders: Mapping[str, str], shards: Mapping[str, int], partial: str):
        """Takes folder and number of shards by split, and where unfinished files lie."""
        self._folders = folders
        self._shards = shards
        self._partial = partial

    def process(self, element: tuple[tuple[str, int], Iterable[Any]]) -> Iterator[tuple[str, int]]:
        """Yields (split, number of records written)."""
        (split, shard), records = element
        records = sorted(records)
        name = f"data_tfrecord-{shard:05d}-of-{self._shards[split]:05d}.gz"
        path = os.path.join(self._folders[split], name)
        # Workers die and are doubled: the file appears under its name complete or not at all.
        with files.replacing(path, self._partial) as half, tf.io.TFRecordWriter(half, "GZIP") as writer:
            for _, _, serialized in records:
                writer.write(serialized)
        yield split, len(records)


def write_counts(counts: list[tuple[str, int]], path: str, partial: str) -> str:
    """Writes what the shards counted, summed by split, as a JSON object."""
    total: collections.Counter[str] = collections.Counter()
    for split, count in counts:
        total[split] += count
    files.write_json(path, total, unfinished=partial)
    return path


def write_quarantine(rows: list[dict], path: str, partial: str) -> str:
    """Writes quarantine.jsonl, sorted by path; where all is well there is one too, empty."""
    ordered = sorted(rows, key=lambda row: (row["path"], row["reason"]))
    files.write(path, "".join(json.dumps(row) + "\n" for row in ordered), partial)
    return path


def write_rows(rows: Iterable[tuple[str, str]], path: str) -> None:
    """Writes (path, reason) rows as the quarantine has them, without sizes."""
    files.write(path, "".join(json.dumps({"path": name, "reason": reason}) + "\n" for name, reason in rows))

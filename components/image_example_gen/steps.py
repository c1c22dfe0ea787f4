"""The Beam steps of ingestion. Each is picklable and holds nothing but what it was made with."""

import collections
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf

from longtail.components import config
from longtail.components.data import features
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.data import spool
from longtail.models import files
from longtail.models import pictures

BAD = "bad"  # tag of the rows for the quarantine
REPEATED = "repeated"  # and of the rows that say which files are the same

SET_ASIDE = "the same file as "  # how the reason of one that is set aside for another identity's begins


class Row(NamedTuple):
    """An image on its way.

    Attributes:
      split: of the artifact.
      identity: whom it shows.
      path: below the source's root.
      sha256: of the file, in hex.
      side: value of `features.SPLIT`; b"" while it is open.
      place: where its tf.Example lies.
    """

    split: str
    identity: str
    path: str
    sha256: str
    side: bytes
    place: spool.Place


class CheckImages(beam.DoFn):
    """Reads and judges files: `sources.Item` -> Row, or a quarantine row under the tag BAD.

    A worker holds one file and what it decodes to; the example goes to a spool at once.
    """

    def __init__(self, source: sources.Source, held_out: frozenset[str], max_pixels: int, partial: str):
        """Takes the identities of eval (an item that states a split goes by that instead), and where to spool."""
        self._source = source
        self._held_out = held_out
        self._max_pixels = max_pixels
        self._max_bytes = pictures.max_bytes(max_pixels)
        self._partial = partial
        self._spool: spool.Writer | None = None

    def start_bundle(self) -> None:
        self._spool = spool.Writer(self._partial)

    def finish_bundle(self) -> None:
        assert self._spool is not None
        self._spool.close()
        self._spool = None

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
        side = features.TRAIN if split == features.TRAIN_SPLIT else (item.split or "").encode()
        example = to_example(item, image, sha256)
        assert self._spool is not None
        place = self._spool.write(example.SerializeToString(deterministic=True))
        yield Row(split, item.identity, item.path, sha256, side, place)


class JudgeCopies(beam.DoFn):
    """Says which files are the same: (sha256, its Rows) -> Rows, and under the tag REPEATED a row for each file there
    is more than once.

    The same file under two identities is a contradiction, and a leak where one of them is trained on and the other
    scored. All of such files are set aside where that is asked for: nobody knows whose they are.
    """

    def __init__(self, contradictions: str):
        """Takes `data.contradictions`."""
        self._set_aside = contradictions == config.SET_ASIDE

    def process(self, element: tuple[str, Iterable[Row]]) -> Iterator[Any]:
        sha256, rows = element
        rows = sorted(rows, key=lambda row: row.path)
        identities = sorted({row.identity for row in rows})
        if len(rows) > 1:
            yield beam.pvalue.TaggedOutput(REPEATED, repeated_row(sha256, rows))
        if len(identities) == 1 or not self._set_aside:
            yield from rows
            return
        for row in rows:
            other = next(each for each in rows if each.identity != row.identity)
            reason = f"{SET_ASIDE}{other.path}, of another identity"
            yield beam.pvalue.TaggedOutput(BAD, quarantine_row(row.path, reason, None))


def repeated_row(sha256: str, rows: list[Row]) -> dict[str, Any]:
    """A line of repeated.jsonl."""
    by_identity = collections.defaultdict(list)
    for row in rows:
        by_identity[row.identity].append(row.path)
    return {
        "sha256": sha256,
        "contradiction": len(by_identity) > 1,
        "leak": len({row.split for row in rows}) > 1,
        "paths": dict(sorted(by_identity.items())),
    }


def read_items(path: str) -> Iterator[Any]:
    """The items that a file of the listing holds."""
    with tf.io.gfile.GFile(path) as file:
        for line in file:
            yield sources.Item(**json.loads(line))


def quarantine_row(path: str, reason: str, size: int | None = None) -> dict:
    """A line of quarantine.jsonl; `bytes` is null where the file was not read."""
    return {"path": path, "reason": reason, "bytes": size}


def to_example(item: sources.Item, image: images.CheckedImage, sha256: str) -> tf.train.Example:
    """The features of longtail.components.data.features, but for `split`, which is not known yet."""
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
    """Says which images of an identity ask and which answer, where the layout does not: (identity, Rows) -> Rows."""

    def __init__(self, query_fraction: float, seed: int):
        """See splits.queries."""
        self._query_fraction = query_fraction
        self._seed = seed

    def process(self, element: tuple[str, Iterable[Row]]) -> Iterator[Any]:
        _, rows = element
        rows = list(rows)
        found = [(row.path, row.sha256) for row in rows if not row.side]
        asking = splits.queries(found, self._query_fraction, self._seed) if found else set()
        for row in rows:
            yield row if row.side else row._replace(side=features.QUERY if row.path in asking else features.GALLERY)


def with_split(serialized: bytes, side: bytes) -> bytes:
    """The serialised tf.Example with its `split` set."""
    example = tf.train.Example.FromString(serialized)
    example.features.feature[features.SPLIT].bytes_list.value[:] = [side]
    return example.SerializeToString(deterministic=True)


def shard_key(row: Any, shards: Mapping[str, int]) -> tuple[tuple[str, int], tuple[int, Any]]:
    """((split, shard), (place in the shard, row)): both by a hash of the path."""
    place = int.from_bytes(hashlib.blake2b(row.path.encode(), digest_size=8).digest(), "big") >> 1
    return (row.split, place % shards[row.split]), (place, row)


class WriteShard(beam.DoFn):
    """Writes one gzipped TFRecord file, its records in the order of their hashes; holds one record at a time."""

    def __init__(self, folders: Mapping[str, str], shards: Mapping[str, int], partial: str):
        """Takes folder and number of shards by split, and where unfinished files lie."""
        self._folders = folders
        self._shards = shards
        self._partial = partial

    def process(self, element: tuple[tuple[str, int], Iterable[Any]]) -> Iterator[tuple[str, int]]:
        """Yields (split, number of records written)."""
        (split, shard), records = element
        records = sorted(records, key=lambda record: (record[0], record[1].path))
        name = f"data_tfrecord-{shard:05d}-of-{self._shards[split]:05d}.gz"
        path = os.path.join(self._folders[split], name)
        # Workers die and are doubled: the file appears under its name complete or not at all.
        with (
            files.replacing(path, self._partial) as half,
            tf.io.TFRecordWriter(half, "GZIP") as writer,
            contextlib.closing(spool.Reader()) as spooled,
        ):
            for _, row in records:
                writer.write(with_split(spooled.read(row.place), row.side))
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
    return write_lines(sorted(rows, key=lambda row: (row["path"], row["reason"])), path, partial)


def write_repeated(rows: list[dict], path: str, partial: str) -> str:
    """Writes repeated.jsonl, sorted by digest; where no file is there twice there is one too, empty."""
    return write_lines(sorted(rows, key=lambda row: row["sha256"]), path, partial)


def write_lines(rows: Iterable[dict], path: str, partial: str = "") -> str:
    """Writes a JSON object a line."""
    files.write(path, "".join(json.dumps(row) + "\n" for row in rows), partial)
    return path

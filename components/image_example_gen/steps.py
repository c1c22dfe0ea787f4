"""The Beam steps of ingestion. Each is picklable and holds nothing but what it was made with."""

import collections
import contextlib
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Callable
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
    """Reads and judges files: the name of a file of the listing -> packs of Rows by content, and quarantine rows under
    the tag BAD.

    A worker holds one image and what it decodes to; the example goes to a spool at once.
    """

    def __init__(
        self, source: sources.Source, held_out: frozenset[str], max_pixels: int, partial: str, buckets: int
    ):
        """Takes the identities of eval (an item that states a split goes by that instead), and where to spool."""
        self._source = source
        self._held_out = held_out
        self._max_pixels = max_pixels
        self._max_bytes = pictures.max_bytes(max_pixels)
        self._partial = partial
        self._buckets = buckets
        self._spool: spool.Writer | None = None

    def start_bundle(self) -> None:
        self._spool = spool.Writer(self._partial)

    def finish_bundle(self) -> None:
        assert self._spool is not None
        self._spool.close()
        self._spool = None

    def process(self, listed: str) -> Iterator[Any]:
        rows = []
        for item in read_items(listed):
            found = self._judge(item)
            if isinstance(found, Row):
                rows.append(found)
            else:
                yield beam.pvalue.TaggedOutput(BAD, found)
        yield from packs(rows, lambda row: bucket(row.sha256, self._buckets))

    def _judge(self, item: sources.Item) -> Row | dict:
        size = None
        try:
            data = self._source.read(item, self._max_bytes)
            size = len(data)
            image = images.check(data, self._max_pixels)
        except (sources.ReadError, images.BadImage) as error:
            return quarantine_row(item.path, str(error), size)
        sha256 = hashlib.sha256(data).hexdigest()
        split = splits.output_split(item, self._held_out)
        side = features.TRAIN if split == features.TRAIN_SPLIT else (item.split or "").encode()
        assert self._spool is not None
        place = self._spool.write(features_of(item, image, sha256))
        return Row(split, item.identity, item.path, sha256, side, place)


def bucket(key: str, buckets: int) -> int:
    """A number below `buckets` that hangs on the key alone."""
    return zlib.crc32(key.encode()) % buckets


def packs(rows: Iterable[Any], key: Callable[[Any], Any]) -> Iterator[tuple[Any, list[Any]]]:
    """The rows of each key, together: a runner spends as much on an element as a worker does on an image."""
    found = collections.defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    yield from found.items()


def unpacked(gathered: Iterable[list[Any]]) -> list[Any]:
    """All rows of the packs that were gathered under one key."""
    return list(itertools.chain.from_iterable(gathered))


class JudgeCopies(beam.DoFn):
    """Says which files are the same: (bucket, packs of Rows) -> packs of Rows by identity, and under the tag REPEATED a
    row for each file there is more than once.

    The same file under two identities is a contradiction, and a leak where one of them is trained on and the other
    scored. All of such files are set aside where that is asked for: nobody knows whose they are.
    """

    def __init__(self, contradictions: str, buckets: int):
        """Takes `data.contradictions`."""
        self._set_aside = contradictions == config.SET_ASIDE
        self._buckets = buckets

    def process(self, element: tuple[int, Iterable[list[Row]]]) -> Iterator[Any]:
        kept = []
        for sha256, rows in packs(sorted(unpacked(element[1]), key=lambda row: row.path), lambda row: row.sha256):
            if len(rows) > 1:
                yield beam.pvalue.TaggedOutput(REPEATED, repeated_row(sha256, rows))
            if not self._set_aside or len({row.identity for row in rows}) == 1:
                kept += rows
                continue
            for row in rows:
                other = next(each for each in rows if each.identity != row.identity)
                reason = f"{SET_ASIDE}{other.path}, of another identity"
                yield beam.pvalue.TaggedOutput(BAD, quarantine_row(row.path, reason, None))
        yield from packs(kept, lambda row: bucket(row.identity, self._buckets))


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


def features_of(item: sources.Item, image: images.CheckedImage, sha256: str) -> bytes:
    """The serialised tf.train.Features of an example, but for `split`, which is not known yet."""
    height, width, _ = image.pixels.shape
    found = tf.train.Features()
    words = {
        features.ENCODED: image.encoded,
        features.FORMAT: image.format,
        features.PATH: item.path.encode(),
        features.SHA256: sha256.encode(),
        features.IDENTITY: item.identity.encode(),
    }
    for key, word in words.items():
        found.feature[key].bytes_list.value.append(word)
    for key, whole in {features.HEIGHT: height, features.WIDTH: width, features.CAMERA: item.camera}.items():
        found.feature[key].int64_list.value.append(whole)
    for key, number in images.scalars(image).items():
        found.feature[key].float_list.value.append(number)
    return found.SerializeToString(deterministic=True)


class DivideIdentities(beam.DoFn):
    """Says which images of an identity ask and which answer, where the layout does not, and places every image:
    (bucket, packs of Rows) -> ((split, shard), pack of (place in the shard, Row)).
    """

    def __init__(self, query_fraction: float, seed: int, shards: Mapping[str, int]):
        """See splits.queries and shard_of."""
        self._query_fraction = query_fraction
        self._seed = seed
        self._shards = shards

    def process(self, element: tuple[int, Iterable[list[Row]]]) -> Iterator[Any]:
        placed = []
        for _, rows in packs(unpacked(element[1]), lambda row: row.identity):
            for row in self._divided(rows):
                place = place_of(row.path)
                placed.append(((row.split, place % self._shards[row.split]), (place, row)))
        for shard, found in packs(placed, lambda pair: pair[0]):
            yield shard, [record for _, record in found]

    def _divided(self, rows: list[Row]) -> Iterator[Row]:
        found = [(row.path, row.sha256) for row in rows if not row.side]
        asking = splits.queries(found, self._query_fraction, self._seed) if found else set()
        for row in rows:
            yield row if row.side else row._replace(side=features.QUERY if row.path in asking else features.GALLERY)


def place_of(path: str) -> int:
    """A hash of the path, of 63 bits: it says which shard an image is in, and where in it."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1


def with_split(found: bytes, side: bytes) -> bytes:
    """The serialised tf.Example of serialised features, with its `split` set.

    An example holds nothing but its features, in the order of their keys, of which `split` is the last: so it is put
    together here as protobuf would write it, and no image passes through its parser again.
    """
    last = tf.train.Features()
    last.feature[features.SPLIT].bytes_list.value.append(side)
    found += last.SerializeToString()
    rest, length = len(found), bytearray()
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return b"\n" + bytes([*length, rest]) + found


class WriteShard(beam.DoFn):
    """Writes one gzipped TFRecord file, its records in the order of their hashes; holds one record at a time."""

    def __init__(self, folders: Mapping[str, str], shards: Mapping[str, int], partial: str):
        """Takes folder and number of shards by split, and where unfinished files lie."""
        self._folders = folders
        self._shards = shards
        self._partial = partial

    def process(self, element: tuple[tuple[str, int], Iterable[list[Any]]]) -> Iterator[tuple[str, int]]:
        """Yields (split, number of records written)."""
        (split, shard), gathered = element
        records = sorted(unpacked(gathered), key=lambda record: (record[0], record[1].path))
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

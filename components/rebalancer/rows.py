"""The Beam steps of a rebalancing, as plain functions: which images stay, and in which order."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf

from longtail.components import ledger
from longtail.components.data import features
from longtail.components.data import spool
from longtail.components.rebalancer import census
from longtail.models import files

# Records a file holds, about.
SHARD_ROWS = 4096

File = tuple[bytes, bytes, int]  # (path, sha256, camera)


def file_of(record: bytes) -> tuple[bytes, File]:
    """Returns the identity of a serialised tf.Example, and what tells it apart."""
    found = tf.train.Example.FromString(record).features.feature
    identity, path, sha256 = (
        found[name].bytes_list.value[0] for name in (features.IDENTITY, features.PATH, features.SHA256)
    )
    return identity, (path, sha256, found[features.CAMERA].int64_list.value[0])


def lowest_known(cameras: Iterable[int]) -> int:
    """Returns which camera saw an image whose copies say these: -1 where none is known."""
    return min((camera for camera in cameras if camera >= 0), default=-1)


def counted(record: bytes, span: int, withdrawn: ledger.Withdrawals) -> Iterator[Any]:
    """Yields ((identity, sha256), (span, camera, 1)), nothing of a withdrawn identity."""
    identity, (_, sha256, camera) = file_of(record)
    if identity.decode() not in withdrawn:
        yield (identity, sha256), (span, camera, 1)


def write_counts(counts: Iterable[tuple[tuple[Any, ...], tuple[int, int]]], path: str) -> None:
    """Writes [identity, span, camera, distinct images, files] as JSON, by rename."""
    rows = sorted([identity.decode(), *where, *pair] for (identity, *where), pair in counts)
    files.write_json(path, rows, indent=None)


class Spool(beam.DoFn):
    """Writes records down: serialised tf.Example -> (identity, (file, place))."""

    def __init__(self, folder: str, withdrawn: ledger.Withdrawals):
        """Takes the folder of the spool, and whose records are passed over."""
        self._folder = folder
        self._withdrawn = withdrawn
        self._spool: spool.Writer | None = None

    def start_bundle(self) -> None:
        self._spool = spool.Writer(self._folder)

    def finish_bundle(self) -> None:
        assert self._spool is not None
        self._spool.close()
        self._spool = None

    def process(self, record: bytes) -> Iterator[Any]:
        assert self._spool is not None
        identity, file = file_of(record)
        if identity.decode() not in self._withdrawn:
            yield identity, (file, self._spool.write(record))


def load_plan(uri: str) -> dict[str, Any]:
    """Reads the census where a worker needs it: `classes` by identity, and `shards`."""
    read = census.read_census(uri)
    return {"classes": by_identity(read), "shards": -(-read["rows"] // SHARD_ROWS)}


def by_identity(plan: dict[str, Any]) -> dict[bytes, tuple[int, int, int, list[int] | None]]:
    """Returns identity -> (class id, images, rows, cameras or None for all) of a census."""
    return {
        one["identity"].encode(): (one["class_id"], one["images"], one["rows"], one.get("cameras"))
        for one in plan["classes"]
    }


def choose(group: tuple[bytes, Iterable[File]], plan: dict[str, Any], seed: int) -> Iterator[tuple[File, int]]:
    """Chooses which images of one identity stay, and how often each is written. The same file twice is one image.

    Args:
      group: an identity and its files.
      plan: `load_plan`'s.
      seed: of the hash that ranks the images by their paths.

    Yields:
      A file of the image, by a camera of the plan's where it names them, and its number of copies, 1 or more.
    """
    identity, files = group
    if identity not in plan["classes"]:
        return  # beyond the tail of a carve
    _, images, rows, cameras = plan["classes"][identity]
    ranked = sorted(set(files), key=lambda file: (_hash(seed, b"choice", file[0]), file))
    seen_by: dict[bytes, int] = {}
    for _, sha256, camera in ranked:
        seen_by[sha256] = lowest_known((camera, seen_by.get(sha256, -1)))
    first: dict[bytes, File] = {}
    for path, sha256, camera in ranked:
        if cameras is None or (camera == seen_by[sha256] and camera in cameras):
            first.setdefault(sha256, (path, sha256, camera))
    each, more = divmod(rows, images)
    for index, file in enumerate(list(first.values())[:images]):
        yield file, each + (index < more)


def place_rows(
    group: tuple[bytes, Iterable[tuple[File, spool.Place]]], plan: dict[str, Any], seed: int
) -> Iterator[Any]:
    """Places each copy of what stays of one identity in the global shuffle.

    Yields:
      The shard and, within it, (hash of path and copy, class id, where the record lies).
    """
    identity, found = group
    places = dict(found)
    taken: set[bytes] = set()
    for file, copies in choose((identity, places), plan, seed):
        path, sha256, _ = file
        # Two spans may have another image under the same path each.
        name = path if path not in taken else path + b"\0" + sha256
        taken.add(path)
        for copy in range(copies):
            order = _hash(seed, b"place", name, str(copy).encode())
            shard = int.from_bytes(order, "big") * plan["shards"] >> 64
            yield shard, (order, plan["classes"][identity][0], places[file])


def write_shard(group: tuple[int, Iterable[tuple[bytes, int, Any]]], plan: dict[str, Any], folder: str) -> None:
    """Writes one file in the order of the shuffle, by rename: a retried worker is harmless. Holds one record."""
    shard, rows = group
    name = f"data_tfrecord-{shard:05d}-of-{plan['shards']:05d}.gz"
    whole = files.replacing(os.path.join(folder, name), os.path.dirname(folder))
    with (
        whole as half,
        tf.io.TFRecordWriter(half, options="GZIP") as writer,
        contextlib.closing(spool.Reader()) as spooled,
    ):
        for _, class_id, place in sorted(rows):
            writer.write(_with_class(spooled.read(place), class_id))


def _with_class(record: bytes, class_id: int) -> bytes:
    """Returns the tf.Example with its dense class id."""
    example = tf.train.Example.FromString(record)
    example.features.feature[features.CLASS_ID].int64_list.value[:] = [class_id]
    return example.SerializeToString(deterministic=True)


def _hash(seed: int, *words: bytes) -> bytes:
    """Returns 64 bits that depend on the seed and the words alone."""
    return hashlib.sha256(b"\0".join((b"%d" % seed, *words))).digest()[:8]

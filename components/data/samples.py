"""A span in small: some of its images and numbers of more, kept so that the next span can be compared with it.

Both are chosen by hashes of content and identity alone, so that the same span gives the same sample, and two spans
that share identities or images are sampled alike. In a folder lie `sample.tfrecord.gz`, whole tf.Examples, half of them
of train identities and half of held-out ones, as `split` tells; and `table.npz`, a row for each of many train images,
and of all of them how many are whose: a part of the images would not show that an identity is gone.
"""

import dataclasses
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from longtail.components.data import features
from longtail.components.data import tables
from longtail.models import files

SAMPLE_FILE = "sample.tfrecord.gz"
TABLE_FILE = "table.npz"

FINGERPRINT_PROPERTY = "fingerprint"  # of examples, and of the sample drawn from them: of the span's data

TABLE_ROWS = 20_000
IMAGES_EACH = 8  # of an identity, so that a sample holds many; more where there are few identities

_BATCH = 512
# What reading a damaged file raises.
UNREADABLE = (tf.errors.OpError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def draw(train: list[str], held_out: list[str], folder: str, images: int) -> int:
    """Draws a span's sample and table.

    Reads the files twice, in this process; about 70 bytes of memory an image, and 20 bytes of table an identity.

    Args:
      train: gzipped TFRecord of tf.Example, of the identities that are trained on.
      held_out: of the others.
      folder: where to write; made anew.
      images: most images of the sample.

    Returns:
      The number of images in the sample.
    """
    tf.io.gfile.makedirs(folder)
    count = 0
    with tf.io.TFRecordWriter(os.path.join(folder, SAMPLE_FILE), "GZIP") as writer:
        for files in (train, held_out):
            table = _read_all(files)
            if files is train:
                _write_table(_bounded(table), os.path.join(folder, TABLE_FILE))
            place = {int(row): order for order, row in enumerate(_choose(table, images // 2))}
            records = [(place[row], record) for row, record in enumerate(_records(files)) if row in place]
            for _, record in sorted(records):
                writer.write(record)
            count += len(records)
    return count


def read_table(folder: str) -> tables.Table:
    """Reads a table. Raises one of `UNREADABLE` where it is damaged."""
    with tf.io.gfile.GFile(os.path.join(folder, TABLE_FILE), "rb") as file:
        found = np.load(io.BytesIO(file.read()), allow_pickle=False)
    columns = {field.name: found[field.name] for field in dataclasses.fields(tables.Table)}
    return tables.Table(**{**columns, "limit": np.uint64(columns["limit"])})


def read_images(folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads a sample: encoded images, object [N]; identities, object [N] of bytes; which are held out, bool [N].

    Raises one of `UNREADABLE` where it is damaged.
    """
    records = _records([os.path.join(folder, SAMPLE_FILE)])
    found = [tf.train.Example.FromString(record).features.feature for record in records]
    columns = (
        np.array([row[name].bytes_list.value[0] for row in found], object)
        for name in (features.ENCODED, features.IDENTITY, features.SPLIT)
    )
    encoded, identity, split = columns
    return encoded, identity, split != features.TRAIN


def copy(source: str, target: str) -> None:
    """Copies a sample and its table from one folder to another."""
    tf.io.gfile.makedirs(target)
    for name in (SAMPLE_FILE, TABLE_FILE):
        tf.io.gfile.copy(os.path.join(source, name), os.path.join(target, name), overwrite=True)


def remove(folder: str, identity: str) -> None:
    """Rewrites a sample and its table without an identity."""
    path = os.path.join(folder, SAMPLE_FILE)
    with files.replacing(path) as half, tf.io.TFRecordWriter(half, "GZIP") as writer:
        for record in _records([path]):
            found = tf.train.Example.FromString(record).features.feature
            if found[features.IDENTITY].bytes_list.value[0] != identity.encode():
                writer.write(record)
    _write_table(read_table(folder).without(hash_of(identity.encode())), os.path.join(folder, TABLE_FILE))


def hash_of(text: bytes) -> np.uint64:
    """64 bits that hang on `text` alone; 0 for none."""
    if not text:
        return np.uint64(0)
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big"))


def _records(files: list[str]) -> Iterator[bytes]:
    yield from _dataset(files).as_numpy_iterator()


def _dataset(files: list[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(tf.constant(files, tf.string), "GZIP")  # an empty list says no type


def _read_all(files: list[str]) -> tables.Table:
    """The table of every image, in the order of the files."""
    floats = {name: tf.io.FixedLenFeature([], tf.float32, float("nan")) for name in features.SCALARS}
    whole = (features.HEIGHT, features.WIDTH, features.CAMERA)
    words = (features.IDENTITY, features.SHA256, features.FORMAT)
    spec = {
        **floats,
        **{name: tf.io.FixedLenFeature([], tf.int64, -1) for name in whole},
        **{name: tf.io.FixedLenFeature([], tf.string, b"") for name in words},
    }
    parts = []
    for batch in _dataset(files).batch(_BATCH):
        found = {name: value.numpy() for name, value in tf.io.parse_example(batch, spec).items()}
        found[features.FORMAT] = found[features.FORMAT] == b"jpeg"
        values = np.stack([found[name].astype(np.float32) for name in tables.COLUMNS], axis=1)
        identities = found[features.IDENTITY].tolist()
        folders = [name.partition(b"/")[0] if b"/" in name else b"" for name in identities]
        texts = (identities, folders, found[features.SHA256].tolist())
        parts.append((*(np.array([hash_of(text) for text in column], np.uint64) for column in texts), values))
    if not parts:
        none = np.zeros(0, np.uint64)
        return tables.Table(none, none, none, np.zeros((0, len(tables.COLUMNS)), np.float32))
    return tables.Table(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _choose(table: tables.Table, images: int) -> np.ndarray:
    """Rows of the sample, identity by identity in the order of their hashes; a file that occurs twice is one."""
    order = np.lexsort((table.digest, table.identity))
    identity, digest = table.identity[order], table.digest[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (identity[1:] != identity[:-1]) | (digest[1:] != digest[:-1])
    order, identity = order[fresh], identity[fresh]
    _, start, count = np.unique(identity, return_index=True, return_counts=True)
    each = max(IMAGES_EACH, -(-images // max(1, len(count))))
    rank = np.arange(len(order)) - np.repeat(start, count)
    return order[rank < each][:images]


def _bounded(table: tables.Table) -> tables.Table:
    """At most about TABLE_ROWS rows: those of the smallest digests, copies of a file all or none."""
    if len(table.digest) <= TABLE_ROWS:
        return table
    return table.below(np.partition(table.digest, TABLE_ROWS)[TABLE_ROWS])


def _write_table(table: tables.Table, path: str) -> None:
    data = io.BytesIO()
    np.savez_compressed(data, **dataclasses.asdict(table))
    files.write(path, data.getvalue())

"""Reads a request log: TFRecord files of `tensorflow.serving.PredictionLog`. Loads no TFX, so that looking is quick."""

import hashlib
import itertools
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from longtail.components.data import features
from longtail.components.data import images as images_lib
from longtail.models import errors
from longtail.models.export import signatures


def files(folder: str) -> list[str]:
    """The complete files of a request log, the newest first by their names.

    Raises:
      errors.UsageError: there is none, or no such folder.
    """
    if not tf.io.gfile.isdir(folder):
        raise errors.UsageError(f"request log {folder} is no folder; give what `longtail serve --request-log` has")
    names = tf.io.gfile.listdir(folder)
    complete = [name for name in names if not name.startswith(".") and not name.endswith((".partial", "/"))]
    if not complete:
        raise errors.UsageError(
            f"request log {folder} holds no file; give the folder that `longtail serve --request-log` writes to (a "
            "file appears there when it is full, or when the server stops)"
        )
    return [os.path.join(folder, name) for name in sorted(complete, reverse=True)]


def listing(folder: str) -> str:
    """A digest of a request log's files, by name and size; "" for no folder.

    Raises:
      errors.UsageError: there is no file.
    """
    if not folder:
        return ""
    found = [f"{path}:{tf.io.gfile.stat(path).length}" for path in files(folder)]
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def images(paths: list[str], remarks: list[str], most: int) -> Iterator[bytes]:
    """The last encoded images that were asked about, file by file; each file is read twice, one record at a time.

    Args:
      paths: the files, the newest first.
      remarks: gets a line for each file that is not what it should be; what comes before the trouble is good.
      most: how many images; no file is opened beyond them.
    """
    for path in paths:
        if most <= 0:
            return
        count, trouble = _count(path)
        if trouble:
            remarks.append(f"{os.path.basename(path)} set aside after {count} images ({trouble})")
        yield from itertools.islice(_images_in(path), max(0, count - most), count)
        most -= count


def _count(path: str) -> tuple[int, str]:
    """How many images a file holds up to where it is in trouble, and which."""
    count = 0
    try:
        for _ in _images_in(path):
            count += 1
    except (tf.errors.OpError, message.DecodeError):
        return count, "damaged, or no TFRecord file of PredictionLog"
    return count, "" if count else "no image_bytes in it"


def _images_in(path: str) -> Iterator[bytes]:
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        yield from _images_of(record)


def _images_of(record: bytes) -> list[bytes]:
    """The images of one request. Raises DecodeError where it is none."""
    inputs = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request.inputs
    return list(inputs[signatures.IMAGE_BYTES].string_val) if signatures.IMAGE_BYTES in inputs else []


def numbers(encoded: bytes, max_pixels: int) -> dict[str, float]:
    """An image's numbers as ingestion and the span's sample have them: `longtail.components.data.tables.COLUMNS`.

    Raises:
      images.BadImage: it cannot be decoded, or is too large.
    """
    image = images_lib.check(encoded, max_pixels)
    height, width, _ = image.pixels.shape
    return {
        **images_lib.scalars(image),
        features.HEIGHT: height,
        features.WIDTH: width,
        features.CAMERA: np.nan,  # requests name none
        features.FORMAT: image.format == b"jpeg",
    }

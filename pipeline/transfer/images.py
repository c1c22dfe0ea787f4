"""What the analyses of feature transfer look at: a finished run's networks, and images of its identities."""

import hashlib
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.components.data import features
from longtail.models import errors
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.feature_transfer import viewer
from longtail.pipeline.local import root_folder

_AT_ONCE = 512


class Images(NamedTuple):
    """Images of identities that a run trained on, N of them; they are decoded in parts as they are asked for.

    Attributes:
      encoded: the images' files.
      labels: int64 [N], their classes.
      is_trained: bool [N], whether the image was trained on; the others a carve threw away, or they were held out.
      decode: string [B] -> float32 [B, h, w, c] in [-1, 1], and their status.
    """

    encoded: Sequence[bytes]
    labels: np.ndarray
    is_trained: np.ndarray
    decode: Callable

    def pixels(self, rows: Iterable[int]) -> np.ndarray:
        """Float32 [N, h, w, c] of so many rows."""
        return self.decode(tf.constant([self.encoded[row] for row in rows]))[0].numpy()

    def encode(self, viewed: viewer.Viewed, mirrored: bool = False) -> np.ndarray:
        """Rich features of all of them, or of their mirror images: float32 [N, n]."""
        rows = range(len(self.encoded))
        parts = (self.pixels(rows[start : start + _AT_ONCE]) for start in rows[::_AT_ONCE])
        return np.concatenate([viewed.run("encode", part[:, :, ::-1] if mirrored else part) for part in parts])


def load(root: str) -> tuple[viewer.Viewed, dict[str, Any]]:
    """What a run left for the analyses, and its summary.

    Raises:
      errors.UsageError: no finished run there, or of another kind.
    """
    summary = root_folder.finished(root)
    folder = summary["artifacts"].get("model_run")
    if not folder:
        raise errors.UsageError(f"--root {root}: of an earlier version; run it again")
    try:
        return viewer.load(os.path.join(folder, viewer.FOLDER)), summary
    except errors.UsageError as error:
        raise errors.UsageError(f"--root {root}: {error}") from error


def read(viewed: viewer.Viewed, summary: dict[str, Any], keep: Callable[[int, bool], bool]) -> Images:
    """Of the ingested images of the identities that were trained on those of which `keep(label, is_trained)` holds.

    Raises:
      errors.UsageError: none of those identities' images is there.
    """
    class_of = {identity: label for label, identity in enumerate(viewed.identities)}
    folder = summary["artifacts"]["examples"]
    files = sorted(tf.io.gfile.glob(os.path.join(folder, f"Split-{features.TRAIN_SPLIT}", "*")))
    rows = tf.data.TFRecordDataset(files, compression_type="GZIP")
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in (features.ENCODED, features.IDENTITY)}
    encoded, labels, is_trained, found = [], [], [], 0
    for row in rows.map(lambda record: tf.io.parse_single_example(record, spec)).as_numpy_iterator():
        label, image = class_of.get(row[features.IDENTITY].decode()), row[features.ENCODED]
        if label is None:
            continue
        found += 1
        trained = hashlib.sha256(image).hexdigest() in viewed.trained
        if keep(label, trained):
            encoded.append(image)
            labels.append(label)
            is_trained.append(trained)
    if not found:
        raise errors.UsageError(f"{folder}: the images that the run trained on are gone; run it again")
    height, width, channels = viewed.config["model"]["image"]
    decode = preprocess_lib.Preprocess((height, width, channels))
    return Images(encoded, np.array(labels, np.int64), np.array(is_trained, bool), decode)


def unseen(viewed: viewer.Viewed, summary: dict[str, Any]) -> Images:
    """The images of trained identities that were not trained on.

    Raises:
      errors.UsageError: there are none.
    """
    found = read(viewed, summary, lambda _, is_trained: not is_trained)
    if not len(found.labels):
        raise errors.UsageError(
            "the run trained on every image of its identities: set training.held_out, or carve, and run it again"
        )
    return found

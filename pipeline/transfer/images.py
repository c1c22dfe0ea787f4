"""What the analyses of feature transfer look at: a finished run's networks, and images of its identities."""

import hashlib
import os
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.components.data import features
from longtail.models import errors
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.feature_transfer import viewer
from longtail.pipeline.local import root_folder


class Images(NamedTuple):
    """Images of identities that a run trained on.

    Attributes:
      pixels: float32 [N, h, w, c] in [-1, 1].
      labels: int64 [N], their classes.
      is_trained: bool [N], whether the image was trained on; the others a carve threw away, or they were held out.
    """

    pixels: np.ndarray
    labels: np.ndarray
    is_trained: np.ndarray

    def unseen(self) -> "Images":
        """Those that were not trained on.

        Raises:
          errors.UsageError: there are none.
        """
        if self.is_trained.all():
            raise errors.UsageError(
                "the run trained on every image of its identities: set training.held_out, or carve, and run it again"
            )
        return Images(*(part[~self.is_trained] for part in self))


def load(root: str) -> tuple[viewer.Viewed, dict[str, Any]]:
    """What a run left for the analyses, and its summary.

    Raises:
      errors.UsageError: no finished run there, or of another kind.
    """
    summary = root_folder.finished(root)
    folder = summary["artifacts"].get("model_run")
    if not folder:
        raise errors.UsageError(f"--root {root}: of an earlier version; run it again")
    return viewer.load(os.path.join(folder, viewer.FOLDER)), summary


def read(viewed: viewer.Viewed, summary: dict[str, Any]) -> Images:
    """The ingested images of the identities that were trained on: O(N pixels)."""
    class_of = {identity: label for label, identity in enumerate(viewed.identities)}
    pattern = os.path.join(summary["artifacts"]["examples"], f"Split-{features.TRAIN_SPLIT}", "*")
    rows = tf.data.TFRecordDataset(sorted(tf.io.gfile.glob(pattern)), compression_type="GZIP")
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in (features.ENCODED, features.IDENTITY)}
    encoded, labels = [], []
    for row in rows.map(lambda record: tf.io.parse_single_example(record, spec)).as_numpy_iterator():
        label = class_of.get(row[features.IDENTITY].decode())
        if label is not None:
            encoded.append(row[features.ENCODED])
            labels.append(label)
    is_trained = [hashlib.sha256(image).hexdigest() in viewed.trained for image in encoded]
    height, width, channels = viewed.config["model"]["image"]
    decode = preprocess_lib.Preprocess((height, width, channels))
    parts = (tf.constant(encoded[start : start + 512]) for start in range(0, len(encoded), 512))
    pixels = np.concatenate([decode(part)[0].numpy() for part in parts])
    return Images(pixels, np.array(labels), np.array(is_trained))

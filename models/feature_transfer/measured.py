"""The rich features of a training set, streamed through the encoder, and what is known of them."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import head_tail
from longtail.models.feature_transfer import statistics
from longtail.models.training import data as training_data

log = logging.getLogger("longtail")

_BATCH = 512


class Measured(NamedTuple):
    """What an encoder makes of a training set.

    Attributes:
      rich: float32 [N, n], g of each image.
      centres: float64 [C, n].
      directions: of the head classes, or of all where there is no head class.
      far_out: bool [N], the list h.
    """

    rich: np.ndarray
    centres: np.ndarray
    directions: statistics.Directions
    far_out: np.ndarray


class Measure:
    """Encodes a training set as its encoder stands, and takes the statistics: O(N n + C n + n^2) numbers of memory.

    Args:
      encoder: images float32 [B, h, w, c] -> rich features [B, n].
      data: the images.
      preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status).
      transfer: what is asked of the statistics.
      head_threshold: T; classes with K_i > T are head classes.
      pixels: the images decoded, float32 [N, h, w, c], where they are at hand; else never all of them are.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        data: training_data.TrainingSet,
        preprocess: Callable,
        transfer: config_lib.Transfer,
        head_threshold: int,
        pixels: np.ndarray | None = None,
    ):
        self._data, self._transfer = data, transfer
        self.is_head = head_tail.is_head(data.counts, head_threshold)
        self._images = data.encoded if pixels is None else pixels

        @tf.autograph.experimental.do_not_convert
        def run(batch, flip):
            images = batch if pixels is not None else preprocess(batch)[0]
            return encoder(images[:, :, ::-1] if flip else images, training=False)

        self._run = tf.function(run, reduce_retracing=True)

    def __call__(self) -> Measured:
        labels, classes = self._data.class_ids, len(self._data.counts)
        rich = self._encode(flip=False)
        mirrored = self._encode(flip=True) if self._transfer.flip else None
        centres = statistics.centres(rich, labels, classes, mirrored, self._data.yaw, self._transfer.most_yaw)
        if mirrored is not None:
            _check_mirrors(rich, mirrored, labels, classes)
        of = self.is_head if self.is_head.any() else ~self.is_head
        covariance = statistics.covariance(rich, labels, centres, of)
        directions = statistics.directions(covariance, self._transfer.energy)
        return Measured(rich, centres, directions, statistics.far_out(rich, labels, centres))

    def _encode(self, flip: bool) -> np.ndarray:
        parts = (tf.constant(self._images[start : start + _BATCH]) for start in range(0, len(self._images), _BATCH))
        return np.concatenate([self._run(part, flip).numpy() for part in parts])


def _check_mirrors(rich, mirrored, labels, classes) -> None:
    """Says where mirror images are no images of their class, as a mirrored letter is not."""
    own, other = (statistics.centres(one, labels, classes) for one in (rich, mirrored))
    share = statistics.mirrors_are_others(own, other)
    if share > 0.5:
        log.warning(
            "transfer.flip: mirror images of %.0f%% of the classes lie nearer to another class than to their own, as "
            "those of characters do; set it to false",
            100 * share,
        )

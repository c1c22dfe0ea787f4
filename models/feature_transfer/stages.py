"""A step of stage 1 and one of stage 2: which batches they are about, which weights they move (Algorithm 1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models.feature_transfer import transfer as transfer_lib
from longtail.models.training import classifier as classifier_lib


class Rows(NamedTuple):
    """The images that the steps of a stage 1 are about, int64 [steps, B] each: rows of the rich features.

    Attributes:
      head: images of head classes, from the list h; of crt, of classes drawn alike.
      tail: images of tail classes, whose classes are also what head images are transferred to.
      more_tail: other ones, for the control without transferred features.

    Example:

    >>> stages.Rows(*np.zeros([3, 5, 2], np.int64)).tail.shape
    (5, 2)
    """

    head: np.ndarray
    tail: np.ndarray
    more_tail: np.ndarray


def draw(
    far_out: np.ndarray, labels: np.ndarray, is_head: np.ndarray, shape: tuple[int, int], seed: Sequence[int]
) -> Rows:
    """Draws the rows of a stage 1, each image of its kind alike.

    Args:
      far_out: bool [N], whether an image is in the list h.
      labels: int [N].
      is_head: bool [C].
      shape: steps, and images a batch.
      seed: of the draws.

    Example: of the head class's images the last is in the list.

    >>> far_out, labels = np.array([False, True, False]), np.array([0, 0, 1])
    >>> rows = stages.draw(far_out, labels, np.array([True, False]), (1, 2), seed=[0])
    >>> rows.head, rows.tail
    (array([[1, 1]]), array([[2, 2]]))
    """
    rng = np.random.default_rng(seed)
    of_head = is_head[labels]
    hard = np.flatnonzero(of_head & far_out)
    # No image is further out than the mean where all images of every head class are the same.
    hard = hard if len(hard) else np.flatnonzero(of_head)
    tail = np.flatnonzero(~of_head)
    return Rows(rng.choice(hard, shape), rng.choice(tail, shape), rng.choice(tail, shape))


def draw_balanced(labels: np.ndarray, classes: int, shape: tuple[int, int], seed: Sequence[int]) -> Rows:
    """Draws rows of classes drawn alike, whatever their size: for crt, which has one batch.

    Example:

    >>> stages.draw_balanced(np.array([1, 0]), classes=2, shape=(1, 8), seed=[0]).head.mean()
    0.5
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=classes)
    classes_drawn = rng.choice(np.flatnonzero(counts), shape)
    places = (np.cumsum(counts) - counts)[classes_drawn] + rng.integers(0, counts[classes_drawn])
    return Rows(order[places], order[places], order[places])


class Stages:
    """The steps of stages 1 and 2 of one classifier. Whatever a step does not train, it leaves as it is to the bit.

    Stage 1 trains filter and head (of crt the head alone) on rich features that the encoder made before; networks run
    as in inference, with the statistics of batch normalisation as they are. Stage 2 trains encoder, filter and decoder
    under the head as it is.

    Args:
      classifier: built, of a filtered embedder.
      config: of the training.
      loss: of labels and logits, what stage 0 is trained by.

    Attributes:
      state: what a checkpoint needs: the transfer's centres and directions, and both optimisers.
    """

    def __init__(
        self, classifier: classifier_lib.Classifier, config: config_lib.TrainConfig, loss: tf.keras.losses.Loss
    ):
        self._classifier, self._config, self._loss = classifier, config.transfer, loss
        self._transfer = transfer_lib.FeatureTransfer(classifier.head.classes)
        self._transfer.build(classifier.embedder.encoder.output_shape)
        embedder, head = classifier.embedder, classifier.head.trainable_variables
        of_filter, of_encoder = embedder.filter.trainable_variables, embedder.encoder.trainable_variables
        of_decoder = classifier.decoder.trainable_variables if classifier.decoder else []
        self._trained = {1: head if config.transfer.variant == "crt" else of_filter + head}
        self._trained[2] = of_encoder + of_filter + of_decoder
        self._optimizers = {stage: tf.keras.optimizers.Adam(config.transfer.rate) for stage in self._trained}
        for stage, optimizer in self._optimizers.items():
            optimizer.build(self._trained[stage])
        names = {f"optimizer_{stage}": optimizer for stage, optimizer in self._optimizers.items()}
        self.state = tf.train.Checkpoint(transfer=self._transfer, **names)
        self._learn_1 = tf.function(self._learn)  # traced once, although a step calls it for each batch
        self.step_1, self.step_2 = tf.function(self._step_1), tf.function(self._step_2)

    def known(self, centres: np.ndarray, basis: np.ndarray) -> None:
        """What the transfer is made by from now on: centres [C, n] and Q [n, r]."""
        self._transfer.known(centres, basis)

    @tf.autograph.experimental.do_not_convert
    def _step_1(self, rich: tf.Tensor, labels: tf.Tensor, rows: Sequence[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """One step; answers the mean of its batches' losses.

        Args:
          rich: float32 [N, n], g of every image.
          labels: int64 [N].
          rows: int64 [B] three times, a step's share of `Rows`.
          seed: int64 [2], of random directions.
        """
        head, tail, more_tail = ((tf.gather(rich, its), tf.gather(labels, its)) for its in rows)
        batches = [head, tail, self._third(head, tail, more_tail, seed)]
        if self._config.variant == "crt":
            batches = [head]
        elif self._config.joined:
            batches = [tuple(tf.concat(parts, axis=0) for parts in zip(*batches, strict=True))]
        return tf.add_n([self._learn_1(*batch) for batch in batches]) / len(batches)

    def _third(self, head, tail, more_tail, seed):
        if self._config.variant == "transfer":
            return self._transfer(head[0], head[1], to=tail[1]), tail[1]
        if self._config.variant == "random":
            return self._transfer.at_random(head[0], head[1], to=tail[1], seed=seed), tail[1]
        return more_tail

    @tf.autograph.experimental.do_not_convert
    def _learn(self, rich, labels):
        with tf.GradientTape() as tape:
            features = self._classifier.embedder.filter(rich, training=False)
            logits = self._classifier.head((features, labels), training=True)
            loss = self._loss(labels, logits) + self._classifier.metric_loss(features)
            loss += _sum(self._classifier.embedder.filter.losses + self._classifier.head.losses)
        self._apply(1, tape, loss)
        return loss

    @tf.autograph.experimental.do_not_convert
    def _step_2(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """One step on images float32 [B, h, w, c] and labels int64 [B]; answers its loss."""
        with tf.GradientTape() as tape:
            logits = self._classifier((images, labels), training=True)
            loss = self._loss(labels, logits) + _sum(self._classifier.losses)
        self._apply(2, tape, loss)
        return loss

    def _apply(self, stage, tape, loss):
        gradients = tape.gradient(loss, self._trained[stage])
        self._optimizers[stage].apply_gradients(zip(gradients, self._trained[stage], strict=True))


def _sum(losses):
    return tf.add_n(losses) if losses else 0.0

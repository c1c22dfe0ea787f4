"""Stages 1 and 2 in turn, each a phase that a killed training goes on after."""

import dataclasses
import itertools
import logging
from collections.abc import Callable
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models.feature_transfer import measured
from longtail.models.feature_transfer import stages as stages_lib
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data

log = logging.getLogger("longtail")

_MOST_BATCHES = 200  # that batch normalisation is made precise by
_DIRECTIONS = 2**61  # apart from the words that shuffle and augment


class Images:
    """The images of a training, decoded once where they fit the cache, for all that asks for them phase after phase."""

    def __init__(self, config: config_lib.TrainConfig, data: training_data.TrainingSet, preprocess: Callable):
        self.config, self.data, self.preprocess = config, data, preprocess
        self.pixels = training_data.decoded(data, preprocess, config)

    def epochs(self, first: int, epochs: int, augmented: bool = True) -> tuple[tf.data.Dataset, int]:
        """Batches of so many epochs, numbered from `first`, and how many there are in each."""
        training = dataclasses.replace(self.config.training, epochs=first + epochs)
        augment = self.config.augment if augmented else config_lib.Augmentation()
        config = dataclasses.replace(self.config, training=training, augment=augment)
        return training_data.batches(self.data, self.preprocess, config, first, self.pixels)


class PreciseBatchNorm(tf.keras.callbacks.Callback):
    """Puts the mean of many batches' statistics, at one state of the weights, in place of their moving average.

    What is known of the rich features hangs on them, and a moving average lags behind the weights. As a callback it
    does so at the end of stage 0.
    """

    def __init__(self, classifier: classifier_lib.Classifier, images: Images):
        super().__init__()
        self._images = images
        self._forward = tf.function(lambda images: _forward(classifier, images))
        layers = [each for each in classifier.submodules if isinstance(each, tf.keras.layers.BatchNormalization)]
        self._moving = [
            (weight, 1.0 - each.momentum) for each in layers for weight in (each.moving_mean, each.moving_variance)
        ]

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self._images.config.training.epochs:
            self.apply()

    def apply(self) -> None:
        """Does it."""
        sums = [np.zeros(weight.shape, np.float64) for weight, _ in self._moving]
        dataset, steps = self._images.epochs(first=0, epochs=1, augmented=False)
        batches = min(steps, _MOST_BATCHES)
        for batch, _ in dataset.take(batches):
            for weight, _ in self._moving:  # a moving average from zero is this batch's own statistic, by its share
                weight.assign(tf.zeros_like(weight))
            self._forward(batch[0])
            for total, (weight, share) in zip(sums, self._moving, strict=True):
                total += weight.numpy() / share
        for total, (weight, _) in zip(sums, self._moving, strict=True):
            weight.assign(total / batches)


@tf.autograph.experimental.do_not_convert
def _forward(classifier, images) -> None:
    """Runs what has batch normalisation alone: running means of a head or of a loss stay as they are."""
    rich = classifier.embedder.encoder(images, training=True)
    classifier.embedder.filter(rich, training=True)
    if classifier.decoder is not None:
        classifier.decoder(rich, training=True)


class Alternation:
    """Stages 1 and 2 of a training, phase by phase.

    Args:
      classifier: trained by stage 0.
      stages: its steps.
      images: that it is trained on.
      precise: makes its batch normalisation precise.
    """

    def __init__(
        self,
        classifier: classifier_lib.Classifier,
        stages: stages_lib.Stages,
        images: Images,
        precise: PreciseBatchNorm,
    ):
        config = images.config
        self._classifier, self._stages, self._images, self._precise = classifier, stages, images, precise
        self._config, self._data = config, images.data
        encoder, threshold = classifier.embedder.encoder, config.leap.head_threshold
        rest = (images.data, images.preprocess, config.transfer, threshold, images.pixels)
        self._measure = measured.Measure(encoder, *rest)

    def run(self, done: int, callbacks: list[tf.keras.callbacks.Callback]) -> None:
        """Goes through the phases after `done` epochs of the checkpoint; Keras' callbacks take each for an epoch."""
        classifier, first = self._classifier, self._config.training.epochs
        told = tf.keras.callbacks.CallbackList(callbacks, model=classifier)
        classifier.stop_training = False
        told.on_train_begin()
        for epoch in range(max(done, first), self._config.epochs):
            if classifier.stop_training:
                break
            stage, _ = self._config.transfer.stage(epoch - first)
            told.on_epoch_begin(epoch)
            losses = []
            for step, loss in enumerate(self._stage_1(epoch) if stage == 1 else self._stage_2(epoch)):
                told.on_train_batch_begin(step)
                losses.append(float(loss))
                told.on_train_batch_end(step, {"loss": losses[-1]})
                if not np.isfinite(losses[-1]):
                    break
            if stage == 2 and np.isfinite(losses[-1]):
                self._precise.apply()
            told.on_epoch_end(epoch, {"loss": float(np.mean(losses))})
        told.on_train_end()

    def _stage_1(self, epoch: int) -> Iterator[tf.Tensor]:
        transfer, data, own_seed = self._config.transfer, self._data, self._config.training.seed
        found = self._measure()
        self._stages.known(found.centres, found.directions.basis)
        rank = found.directions.basis.shape[1]
        log.info("%d of %d directions keep %.0f%% of the energy", rank, found.rich.shape[1], 100 * transfer.energy)
        shape, seed = (transfer.steps, self._config.training.batch), [own_seed, epoch]
        if transfer.variant == "crt":
            rows = stages_lib.draw_balanced(data.class_ids, len(data.counts), shape, seed)
        else:
            rows = stages_lib.draw(found.far_out, data.class_ids, self._measure.is_head, shape, seed)
        rich, labels = tf.constant(found.rich), tf.constant(data.class_ids, tf.int64)
        for step in range(transfer.steps):
            own = tuple(tf.constant(kind[step]) for kind in rows)
            random = tf.constant([_DIRECTIONS + own_seed, epoch * transfer.steps + step], tf.int64)
            yield self._stages.step_1(rich, labels, own, random)

    def _stage_2(self, epoch: int) -> Iterator[tf.Tensor]:
        """As many batches as a phase has steps: whole epochs of its own, of the last as many as are left."""
        _, each = training_data.steps(self._data, self._config.training)
        passes = -(-self._config.transfer.steps // each)
        dataset, _ = self._images.epochs(epoch * passes, passes)
        for (images, labels), _ in itertools.islice(dataset, self._config.transfer.steps):
            yield self._stages.step_2(images, labels)

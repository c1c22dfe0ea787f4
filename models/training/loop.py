"""The training loop: once as TFX's `run_fn`, once as a plain function, the same code under both."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.models import backbones
from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.models import losses
from longtail.models import schedules
from longtail.models import settings
from longtail.models.export import saved_model
from longtail.models.leap import feature_cloud
from longtail.models.training import callbacks as callbacks_lib
from longtail.models.training import checkpoints as checkpoints_lib
from longtail.models.training import data as training_data
from longtail.models.training import tail_health
from longtail.models.training import workers

log = logging.getLogger("longtail")

_FEW_STEPS = 300  # below it a training from scratch has hardly begun


class Classifier(tf.keras.Model):
    """An embedder under a head: (images [B, h, w, c], labels [B]) -> logits [B, C]; beside it a centre loss or None."""

    def __init__(self, embedder: tf.keras.Model, head: heads.Head, centre_loss: losses.CentreLoss | None = None):
        super().__init__()
        self.embedder = embedder
        self.head = head
        self.centre_loss = centre_loss

    def call(self, inputs, training=False):
        images, labels = inputs
        features = self.embedder(images, training=training)
        if training and self.centre_loss is not None:
            self.add_loss(self.centre_loss(features, labels))
        return self.head((features, labels), training=training)


def build_classifier(config: config_lib.TrainConfig, counts: np.ndarray, steps_per_epoch: int) -> Classifier:
    """Builds embedder, head and (where asked for) feature cloud for classes of `counts` images; all weights made."""
    leap = config.leap
    cloud = None
    if leap.variant != "none":
        cloud = feature_cloud.FeatureCloud(
            counts,
            variant=leap.variant,
            start_step=leap.start_epoch * steps_per_epoch,
            refresh_every=leap.refresh_every,
            head_threshold=leap.head_threshold,
            seed=config.training.seed,
            images_kept=leap.images_kept,
            centre_momentum=leap.centre_momentum,
            angle_order=leap.angle_order,
            statistics=leap.statistics,
            form=leap.form,
            width=leap.width,
            strength=leap.strength,
            total_steps=config.training.epochs * steps_per_epoch,
        )
    model = config.model
    embedder = backbones.build_embedder(
        model.backbone, tuple(model.image), model.dimension, model.weight_decay, model.weights or None
    )
    asked = config.head
    head = heads.HEADS[asked.name](
        len(counts), asked.scale, asked.margin, cloud, model.weight_decay, counts, asked.options
    )
    head.build([(None, model.dimension), (None,)])
    centre_loss = None
    if config.loss.centre_weight:
        centre_loss = losses.CentreLoss(len(counts), config.loss.centre_weight, config.loss.centre_rate)
        centre_loss.build([None, model.dimension])
    return Classifier(embedder, head, centre_loss)


def train(
    config: config_lib.TrainConfig,
    data: training_data.TrainingSet,
    preprocess: Callable,
    checkpoints: str | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
    board: str | None = None,
) -> Classifier:
    """Trains a classifier; goes on from the last epoch saved in `checkpoints`.

    Args:
      config: what to train, and how.
      data: the images; N >= 2.
      preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status).
      checkpoints: folder of this very training, or None to keep none.
      callbacks: more Keras callbacks.
      strategy: where to train; None for the default.
      board: folder for TensorBoard's event files, or None to write none.

    Returns:
      The trained classifier.

    Raises:
      errors.UsageError: a setting out of range.
      errors.WorkError: unreadable images, a checkpoint that is damaged or of another model.
      errors.Diverged: a loss or weights that are not finite.
    """
    check.check(config)
    training = config.training
    tf.keras.utils.set_random_seed(training.seed)
    tf.keras.mixed_precision.set_global_policy(training.precision)
    try:
        return _fit(config, data, preprocess, checkpoints, list(callbacks), strategy, board)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def _fit(config, data, preprocess, checkpoints, callbacks, strategy, board) -> Classifier:
    training = config.training
    strategy = strategy or tf.distribute.get_strategy()
    batch, steps = training_data.steps(data, training)
    _check_plan(config, strategy.num_replicas_in_sync, batch)
    _say_steps(steps, training.epochs, batch)
    drawn = training_data.drawn(data, training)
    schedule = schedules.SCHEDULES[training.schedule](training, steps)
    with strategy.scope():
        classifier = build_classifier(config, data.counts, steps)
        optimizer = schedules.OPTIMIZERS[training.optimizer](schedule)
        classifier.compile(optimizer, losses.build_loss(config, drawn, optimizer.iterations, steps))
        classifier.optimizer.build(classifier.trainable_variables)
    callbacks += callbacks_lib.standard_callbacks(config, data.counts, steps, batch, board)
    with checkpoints_lib.restored(classifier, checkpoints, strategy) as (done, savers), _one_line():
        if done:
            log.info("going on after epoch %d of %d", done, training.epochs)
        if done < training.epochs:
            dataset, _ = training_data.batches(data, preprocess, config, done)
            rest = {"initial_epoch": done, "epochs": training.epochs, "steps_per_epoch": steps}
            classifier.fit(dataset, callbacks=callbacks + savers, verbose=0, **rest)
    if not all(np.isfinite(weight.numpy()).all() for weight in classifier.weights):
        raise errors.Diverged("training: loss or weights are not finite; lower training.rate or head.scale")
    return classifier


def _check_plan(config: config_lib.TrainConfig, devices: int, batch: int) -> None:
    """Refuses what so many devices cannot do with such a batch; says what would have no effect."""
    leap, loss, epochs = config.leap, config.loss, config.training.epochs
    if leap.variant != "none" and leap.start_epoch >= epochs:
        log.warning(
            "leap.start_epoch=%d is not below training.epochs=%d: the cloud never starts, this trains the plain head",
            leap.start_epoch,
            epochs,
        )
    model = config.model
    if backbones.BACKBONES[model.backbone].takes_weights and not model.weights:
        log.warning(
            "model.weights is empty: %s learns from random weights; the papers' re-ID figures are of one trained on "
            "ImageNet",
            model.backbone,
        )
    if loss.name == "class_balanced" and loss.start_epoch >= epochs:
        log.warning(
            "loss.start_epoch=%d is not below training.epochs=%d: the class-balanced weights never begin",
            loss.start_epoch,
            epochs,
        )
    if config.head.name == "triplet" and devices > 1:
        raise errors.UsageError("head.name: triplet mines whole batches, which replicas divide; train it on one device")
    if batch % devices:
        raise errors.UsageError(
            f"training.batch: {devices} devices cannot share a batch of {batch} images evenly; give a multiple"
        )


def _say_steps(steps: int, epochs: int, batch: int) -> None:
    total = steps * epochs
    log.info("%d steps an epoch, %d in all, of %d images each", steps, total, batch)
    if total < _FEW_STEPS:
        log.warning("%d steps in all: too few to learn from; raise training.epochs, or lower training.batch", total)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Says in one line what TensorFlow says in a hundred."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if training_data.UNREADABLE not in error.message:
            raise
        raise errors.WorkError(f"{training_data.UNREADABLE}; run ingestion again") from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        log.warning("%s", error.message)
        raise errors.WorkError(
            "training: another worker or the storage is gone; start all workers again: they go on after the last "
            "saved epoch"
        ) from error


def _digest(config: str, data: training_data.TrainingSet) -> str:
    """Names a training by its settings and its data, image by image: O(encoded bytes)."""
    digest = hashlib.sha256(config.encode())
    digest.update(data.class_ids.tobytes())
    digest.update(data.counts.tobytes())
    for image in data.encoded:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()[:16]


class TransformGraph(tf.Module):
    """Transform's own graph as `preprocess`: encoded bytes in, normalised pixels and status out."""

    def __init__(self, layer: tf.keras.layers.Layer, feature: str, image_shape: Sequence[int]):
        super().__init__()
        self.layer = layer
        self._feature = feature
        self._image_shape = image_shape

    def __call__(self, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.layer({self._feature: encoded[:, tf.newaxis]})
        pixels = tf.ensure_shape(outputs["pixels"], [None, *self._image_shape])
        return pixels, tf.cast(tf.reshape(outputs["status"], [-1]), tf.int32)


def run_fn(fn_args: Any) -> None:
    """TFX's entry: trains on the rebalanced examples and exports the SavedModel.

    `fn_args.custom_config` holds `config` (a `config_lib.TrainConfig` as JSON text), `card` (JSON text) and
    `checkpoints`, a folder that outlives the execution: a killed run finds its last epoch there, under a name made
    of the settings and the data. `fn_args.census_path` is the rebalancer's census. Where TF_CONFIG names several
    workers, each runs this with the same arguments.
    """
    import tensorflow_transform as tft  # a heavy import, and only TFX comes this way

    strategy = workers.strategy()  # before all else that uses TensorFlow
    custom = fn_args.custom_config
    config = settings.read(config_lib.TrainConfig, json.loads(custom["config"]), "trainer config")
    with tf.io.gfile.GFile(fn_args.census_path) as file:
        census = json.load(file)
    data = training_data.read_training_set(fn_args.train_files, census)
    graph = tft.TFTransformOutput(fn_args.transform_graph_path).transform_features_layer()
    preprocess = TransformGraph(graph, "image/encoded", config.model.image)
    checkpoints = os.path.join(custom["checkpoints"], _digest(custom["config"], data))
    log.info("%d images of %d classes", len(data.encoded), len(data.counts))
    card = json.loads(custom.get("card", "{}"))
    train_and_export(
        config, data, preprocess, checkpoints, fn_args.serving_model_dir, strategy, card, fn_args.model_run_dir
    )


def train_and_export(
    config: config_lib.TrainConfig,
    data: training_data.TrainingSet,
    preprocess: Callable,
    checkpoints: str,
    path: str,
    strategy: tf.distribute.Strategy | None = None,
    card: dict[str, Any] | None = None,
    board: str | None = None,
) -> Classifier:
    """Trains, exports the embedder to `path`, and lets the checkpoints go. Arguments are those of `train`.

    Of several workers all come here, and only the chief's files are kept. None goes on before the model is there.
    """
    strategy = strategy or tf.distribute.get_strategy()
    is_chief = workers.is_chief(strategy)
    classifier = train(config, data, preprocess, checkpoints, strategy=strategy, board=board if is_chief else None)
    card = {
        **(card or {}),
        "config": dataclasses.asdict(config),
        "tail_health": tail_health.tail_health(classifier.head, data.counts, config.leap.head_threshold),
    }
    with workers.place(strategy, path) as own:
        saved_model.export(classifier.embedder, preprocess, own, card)
    if is_chief:
        tf.io.gfile.rmtree(checkpoints)  # only now is there nothing to go on from
    workers.agreed(strategy, 0)
    return classifier

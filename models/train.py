"""The training loop: once as TFX's `run_fn`, once as a plain function, the same code under both."""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from models import augment
from models import backbones
from models import callbacks as callbacks_lib
from models import check
from models import config as config_lib
from models import errors
from models import export
from models import feature_cloud
from models import heads
from models import schedules
from models import signatures

log = logging.getLogger("longtail")

_UNREADABLE = "training set: an image is not decodable"

_OPTIMIZERS = {
    "adam": tf.keras.optimizers.Adam,
    "sgd": lambda rate: tf.keras.optimizers.SGD(rate, momentum=0.9),
}


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Encoded images with dense class ids.

    Attributes:
      encoded: object [N] of bytes, JPEG or PNG.
      class_ids: int64 [N], 0..C-1.
      counts: int64 [C], K_i: distinct images of each class, as the census has it.
    """

    encoded: np.ndarray
    class_ids: np.ndarray
    counts: np.ndarray

    def __post_init__(self):
        if len(self.encoded) != len(self.class_ids) or len(self.encoded) == 0:
            raise errors.WorkError(
                f"training set: {len(self.encoded)} images and {len(self.class_ids)} labels; run ingestion again"
            )
        if self.class_ids.min() < 0 or self.class_ids.max() >= len(self.counts):
            raise errors.WorkError(
                f"training set: class ids {self.class_ids.min()}..{self.class_ids.max()} disagree with the "
                f"census of {len(self.counts)} classes; run the rebalancer again"
            )


class Classifier(tf.keras.Model):
    """An embedder under a head: (images [B, h, w, c], labels [B]) -> logits [B, C]."""

    def __init__(self, embedder: tf.keras.Model, head: heads.Head):
        super().__init__()
        self.embedder = embedder
        self.head = head

    def call(self, inputs, training=False):
        images, labels = inputs
        return self.head((self.embedder(images, training=training), labels), training=training)


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
        )
    model = config.model
    embedder = backbones.build_embedder(
        model.backbone, tuple(model.image), model.dimension, model.weight_decay, model.weights or None
    )
    head = heads.HEADS[config.head.name](
        len(counts), config.head.scale, config.head.margin, cloud, model.weight_decay
    )
    head.build([(None, model.dimension), (None,)])
    return Classifier(embedder, head)


def _pixels(data: TrainingSet, preprocess: Callable, config: config_lib.TrainConfig) -> np.ndarray | None:
    """All images decoded, float32 [N, h, w, c], where they fit the cache the recipe allows; else None."""
    size = len(data.encoded) * int(np.prod(config.model.image)) * 4
    if size > config.training.cache_megabytes * 2**20:
        return None
    pixels = np.empty([len(data.encoded), *config.model.image], np.float32)
    decode = tf.function(preprocess, input_signature=[tf.TensorSpec([None], tf.string)])
    for start in range(0, len(data.encoded), 512):
        stop = min(start + 512, len(data.encoded))
        pixels[start:stop], status = (t.numpy() for t in decode(tf.constant(data.encoded[start:stop])))
        if status.any():
            raise errors.WorkError(
                f"training set: image {start + int(np.flatnonzero(status)[0])} is "
                f"{signatures.STATUS_MEANING[int(status[status > 0][0])]}; run ingestion again"
            )
    return pixels


def _steps(data: TrainingSet, training: config_lib.Training) -> tuple[int, int]:
    """Size of a batch, and batches of an epoch."""
    batch = min(training.batch, len(data.encoded))
    return batch, len(data.encoded) // batch


def batches(
    data: TrainingSet, preprocess: Callable, config: config_lib.TrainConfig, first_epoch: int = 0
) -> tuple[tf.data.Dataset, int]:
    """Batches of the epochs from `first_epoch` on, in an order that is a function of (seed, epoch).

    Returns:
      A dataset of ((images float32 [B, h, w, c], labels int64 [B]), labels), and the steps of an epoch. An epoch
      drops the rows that fill no batch; which ones differs from epoch to epoch.
    """
    training = config.training
    count = len(data.encoded)
    batch, steps = _steps(data, training)
    pixels = _pixels(data, preprocess, config)
    with tf.device("/cpu:0"):
        source = tf.constant(data.encoded if pixels is None else pixels)
        labels = tf.constant(data.class_ids, tf.int64)

    def epoch(number):
        seed = tf.stack([tf.constant(training.seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        return tf.data.Dataset.from_tensor_slices(order[: steps * batch]).batch(batch, drop_remainder=True)

    def load(step, rows):
        images = tf.gather(source, rows)
        if pixels is None:
            images, status = preprocess(images)
            readable = tf.debugging.assert_equal(status, signatures.STATUS_OK, _UNREADABLE)
            with tf.control_dependencies([readable]):
                images = tf.identity(images)
        images = tf.ensure_shape(images, [batch, *config.model.image])
        seed = tf.stack([tf.constant(training.seed + 1, tf.int64), step])
        label = tf.gather(labels, rows)
        return (augment.augment(images, seed, config.augment), label), label

    rows = tf.data.Dataset.range(first_epoch, training.epochs).flat_map(epoch)
    loaded = rows.enumerate(first_epoch * steps).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return loaded.prefetch(tf.data.AUTOTUNE), steps


def train(
    config: config_lib.TrainConfig,
    data: TrainingSet,
    preprocess: Callable,
    checkpoints: str | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
) -> Classifier:
    """Trains a classifier; goes on from the last epoch saved in `checkpoints`.

    Args:
      config: what to train, and how.
      data: the images; N >= 2.
      preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status).
      checkpoints: folder of this very training, or None to keep none.
      callbacks: more Keras callbacks.
      strategy: where to train; None for the default.

    Returns:
      The trained classifier.

    Raises:
      errors.UsageError: a setting out of range.
      errors.WorkError: unreadable images, a checkpoint that is damaged or of another model, a loss that is not finite.
    """
    check.check(config)
    training = config.training
    tf.keras.utils.set_random_seed(training.seed)
    tf.keras.mixed_precision.set_global_policy(training.precision)
    try:
        return _fit(config, data, preprocess, checkpoints, list(callbacks), strategy)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def _fit(config, data, preprocess, checkpoints, callbacks, strategy) -> Classifier:
    training = config.training
    if config.leap.variant != "none" and config.leap.start_epoch >= training.epochs:
        log.warning(
            "leap.start_epoch=%d is not below training.epochs=%d: the cloud never starts, this trains the plain head",
            config.leap.start_epoch,
            training.epochs,
        )
    batch, steps = _steps(data, training)
    schedule = schedules.build_schedule(
        training.schedule,
        training.rate,
        steps * training.epochs,
        int(training.warmup_epochs * steps),
        training.cycles,
    )
    with (strategy or tf.distribute.get_strategy()).scope():
        classifier = build_classifier(config, data.counts, steps)
        classifier.compile(
            optimizer=_OPTIMIZERS[training.optimizer](schedule),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        classifier.optimizer.build(classifier.trainable_variables)
    done = 0
    stop_on_nan, progress = tf.keras.callbacks.TerminateOnNaN(), callbacks_lib.Progress(config, steps, batch)
    callbacks += [stop_on_nan, callbacks_lib.Recompute(), progress]
    if checkpoints:
        keeper = callbacks_lib.EpochCheckpoint(classifier, checkpoints)
        done = keeper.restore()
        if done:
            log.info("going on after epoch %d of %d", done, training.epochs)
        callbacks.append(keeper)
    dataset, steps = batches(data, preprocess, config, done)
    if done < training.epochs:
        rest = {"initial_epoch": done, "epochs": training.epochs, "steps_per_epoch": steps}
        try:
            classifier.fit(dataset, callbacks=callbacks, verbose=0, **rest)
        except tf.errors.InvalidArgumentError as error:
            if _UNREADABLE not in error.message:
                raise
            raise errors.WorkError(f"{_UNREADABLE}; run ingestion again") from error
    if not all(np.isfinite(weight.numpy()).all() for weight in classifier.weights):
        raise errors.WorkError("training: loss or weights are not finite; lower training.rate or head.scale")
    return classifier


def _digest(config: str, data: TrainingSet) -> str:
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


def read_training_set(patterns: Sequence[str], census: dict[str, Any]) -> TrainingSet:
    """Reads rebalanced tf.Examples (gzipped TFRecord) into memory: O(encoded bytes)."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    spec = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "class_id": tf.io.FixedLenFeature([], tf.int64),
    }
    rows = tf.data.TFRecordDataset(files, compression_type="GZIP").batch(1024)
    parsed = [tf.io.parse_example(batch, spec) for batch in rows]
    if not parsed:
        raise errors.WorkError(f"training set: no examples in {', '.join(patterns)}; run the rebalancer again")
    return TrainingSet(
        np.concatenate([batch["image/encoded"].numpy() for batch in parsed]),
        np.concatenate([batch["class_id"].numpy() for batch in parsed]),
        np.asarray([entry["images"] for entry in census["classes"]], np.int64),
    )


def run_fn(fn_args: Any) -> None:
    """TFX's entry: trains on the rebalanced examples and exports the SavedModel.

    `fn_args.custom_config` holds `config` (a `config_lib.TrainConfig` as JSON text), `card` (JSON text) and
    `checkpoints`, a folder that outlives the execution: a killed run finds its last epoch there, under a name made
    of the settings and the data. `fn_args.census_path` is the rebalancer's census.
    """
    import tensorflow_transform as tft  # a heavy import, and only TFX comes this way

    custom = fn_args.custom_config
    config = config_lib.read(config_lib.TrainConfig, json.loads(custom["config"]), "trainer config")
    with tf.io.gfile.GFile(fn_args.census_path) as file:
        census = json.load(file)
    data = read_training_set(fn_args.train_files, census)
    graph = tft.TFTransformOutput(fn_args.transform_graph_path).transform_features_layer()
    preprocess = TransformGraph(graph, "image/encoded", config.model.image)
    checkpoints = os.path.join(custom["checkpoints"], _digest(custom["config"], data))
    board = tf.keras.callbacks.TensorBoard(fn_args.model_run_dir, profile_batch=0)
    log.info("%d images of %d classes", len(data.encoded), len(data.counts))
    classifier = train(config, data, preprocess, checkpoints, [board])
    card = {**json.loads(custom.get("card", "{}")), "config": dataclasses.asdict(config)}
    export.export(classifier.embedder, preprocess, fn_args.serving_model_dir, card)
    # Only now is there nothing to go on from.
    tf.io.gfile.rmtree(checkpoints)

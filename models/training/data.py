"""The images of a training, on disk: read, decoded, shuffled and batched as a function of seed and epoch."""

import dataclasses
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.models import augment
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import head_tail
from longtail.models.export import signatures
from longtail.models.training import records

_READ_AT_ONCE = 64  # images
UNREADABLE = "training set: an image is not decodable"


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Encoded images with dense class ids.

    Attributes:
      encoded: JPEG or PNG, N of them: `records.Records` on disk, or object [N] of bytes.
      class_ids: int64 [N], 0..C-1.
      counts: int64 [C], K_i: distinct images of each class, as the census has it.
      yaw: float64 [N], how far each face is turned to the side, degrees; NaN, or None for all, where that is not known.
    """

    encoded: np.ndarray | records.Records
    class_ids: np.ndarray
    counts: np.ndarray
    yaw: np.ndarray | None = None

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


def read_training_set(patterns: Sequence[str], census: dict[str, Any], yaw_pattern: str = "") -> TrainingSet:
    """Copies the images of rebalanced tf.Examples (gzipped TFRecord, at any TensorFlow URI) to the local disk.

    Memory is 24 bytes an image, and 8 more with a `yaw_pattern`; the temporary folder takes the encoded bytes.

    Raises:
      errors.WorkError: there are none, a file of them is damaged, or the pattern does not find what it should.
    """
    class_ids: list[np.ndarray] = []
    encoded = records.Records.write(_images(patterns, class_ids))
    if not class_ids:
        raise errors.WorkError(f"training set: no examples in {', '.join(patterns)}; run the rebalancer again")
    counts = np.asarray([entry["images"] for entry in census["classes"]], np.int64)
    return TrainingSet(encoded, np.concatenate(class_ids), counts, yaw_of(_paths(patterns), yaw_pattern))


def yaw_of(paths: Iterable[str], pattern: str) -> np.ndarray | None:
    """Degrees that each path says, float64 [N], NaN where it says none; None without a pattern.

    Raises:
      errors.WorkError: the pattern finds nothing in any path, or something that is no number.
    """
    if not pattern:
        return None
    search, found, path = re.compile(pattern).search, [], ""
    for path in paths:
        match = search(path)
        said = (match[1] if match else None) or "nan"
        try:
            found.append(float(said))
        except ValueError as error:
            raise errors.WorkError(
                f"transfer.yaw_pattern '{pattern}' finds '{said}' in {path}; its group must be around a number"
            ) from error
    if np.isnan(found).all():
        raise errors.WorkError(f"transfer.yaw_pattern '{pattern}' finds nothing in any path, such as {path}")
    return np.array(found)


def _images(patterns: Sequence[str], class_ids: list[np.ndarray]) -> Iterator[bytes]:
    """The encoded images, in the order of the files; puts their class ids into `class_ids`, int64 [some] each."""
    for batch in _parsed(patterns, {"image/encoded": tf.string, "class_id": tf.int64}):
        class_ids.append(batch["class_id"])
        yield from batch["image/encoded"]


def _paths(patterns: Sequence[str]) -> Iterator[str]:
    """Where the images lay, in the order of `_images`."""
    for batch in _parsed(patterns, {"image/path": tf.string}):
        yield from (path.decode() for path in batch["image/path"])


def _parsed(patterns: Sequence[str], features: dict[str, tf.DType]) -> Iterator[dict[str, np.ndarray]]:
    spec = {key: tf.io.FixedLenFeature([], dtype) for key, dtype in features.items()}
    images = 0
    for file in sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern)):
        try:
            for batch in tf.data.TFRecordDataset(file, compression_type="GZIP").batch(_READ_AT_ONCE):
                images += len(batch)
                yield {key: values.numpy() for key, values in tf.io.parse_example(batch, spec).items()}
        except tf.errors.DataLossError as error:
            raise errors.WorkError(
                f"{file}: damaged or cut short, after {images} images of the training set; put it "
                "back, or run again with another --root"
            ) from error


def hold_out(data: TrainingSet, config: config_lib.TrainConfig) -> tuple[TrainingSet, np.ndarray]:
    """Leaves `training.held_out` images of each head class out, or as many as leave it a head class.

    Returns:
      The images that are trained on, and bool [N], whether an image is not.
    """
    is_held = np.zeros(len(data.encoded), bool)
    rng = np.random.default_rng(config.training.seed)
    if config.training.held_out:
        for label in np.flatnonzero(head_tail.is_head(data.counts, config.leap.head_threshold)):
            rows = rng.permutation(np.flatnonzero(data.class_ids == label))
            is_held[rows[: min(config.training.held_out, len(rows) - config.leap.head_threshold - 1)]] = True
    fewer = np.bincount(data.class_ids[is_held], minlength=len(data.counts))
    yaw = None if data.yaw is None else data.yaw[~is_held]
    kept = TrainingSet(data.encoded[~is_held], data.class_ids[~is_held], data.counts - fewer, yaw)
    return kept, is_held


def decoded(data: TrainingSet, preprocess: Callable, config: config_lib.TrainConfig) -> np.ndarray | None:
    """All images decoded, float32 [N, h, w, c], where they fit the cache the recipe allows; else None."""
    size = len(data.encoded) * int(np.prod(config.model.image)) * 4
    if size > config.training.cache_megabytes * 2**20:
        return None
    pixels = np.empty([len(data.encoded), *config.model.image], np.float32)
    as_it_is = tf.autograph.experimental.do_not_convert(preprocess)
    decode = tf.function(as_it_is, input_signature=[tf.TensorSpec([None], tf.string)])
    for start in range(0, len(data.encoded), 512):
        stop = min(start + 512, len(data.encoded))
        encoded = np.asarray(data.encoded[start:stop])
        pixels[start:stop], status = (t.numpy() for t in decode(tf.constant(encoded)))
        if status.any():
            raise errors.WorkError(
                f"training set: image {start + int(np.flatnonzero(status)[0])} is "
                f"{signatures.STATUS_MEANING[int(status[status > 0][0])]}; run ingestion again"
            )
    return pixels


def _slots(class_ids: np.ndarray, images_per_class: int) -> np.ndarray:
    """Which rows go together where a batch is made of groups of one class: int64 [M, K].

    Numbers are places in an order that is sorted by class. Every row is in a group; a class whose rows do not fill its
    last group fills it with its first ones.
    """
    counts = np.bincount(class_ids)
    groups = -(-counts // images_per_class)
    first = np.repeat(np.cumsum(counts) - counts, groups)
    rank = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
    within = rank[:, np.newaxis] * images_per_class + np.arange(images_per_class)
    return first[:, np.newaxis] + within % np.repeat(counts, groups)[:, np.newaxis]


def drawn(data: TrainingSet, training: config_lib.Training) -> np.ndarray:
    """How many rows of each class an epoch draws, but for the last that fill no batch: int64 [C]."""
    class_ids = data.class_ids
    if training.images_per_class:
        class_ids = np.sort(class_ids)[_slots(class_ids, training.images_per_class).ravel()]
    return np.bincount(class_ids, minlength=len(data.counts))


def steps(data: TrainingSet, training: config_lib.Training) -> tuple[int, int]:
    """Size of a batch, and batches of an epoch."""
    each = training.images_per_class
    rows = len(data.encoded) if each == 0 else _slots(data.class_ids, each).size
    batch = min(training.batch, rows)
    batch -= batch % (each or 1)
    return batch, rows // batch


def _source(data: TrainingSet, preprocess: Callable, pixels: np.ndarray | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """What gives the images of rows, int64 [B] -> float32 [B, h, w, c]: from memory, or read and decoded."""
    if pixels is not None:
        with tf.device("/cpu:0"):
            source = tf.constant(pixels)
        return lambda rows: tf.gather(source, rows)

    def encoded_at(rows: np.ndarray) -> np.ndarray:
        return np.asarray(data.encoded[rows])

    def read(rows: tf.Tensor) -> tf.Tensor:
        encoded = tf.ensure_shape(tf.numpy_function(encoded_at, [rows], tf.string, stateful=False), [None])
        images, status = preprocess(encoded)
        readable = tf.debugging.assert_equal(status, signatures.STATUS_OK, UNREADABLE)
        with tf.control_dependencies([readable]):
            return tf.identity(images)

    return read


def batches(
    data: TrainingSet,
    preprocess: Callable,
    config: config_lib.TrainConfig,
    first_epoch: int = 0,
    pixels: np.ndarray | None = None,
) -> tuple[tf.data.Dataset, int]:
    """Batches of the epochs from `first_epoch` on, in an order that is a function of (seed, epoch).

    `pixels` are what `decoded` answered, of a caller that asks for batches more than once.

    Returns:
      A dataset of ((images float32 [B, h, w, c], labels int64 [B]), labels), and the steps of an epoch. An epoch
      drops the rows that fill no batch; which ones differs from epoch to epoch. With `images_per_class` K, a batch is
      made of groups of K images of one identity.
    """
    training = config.training
    count = len(data.encoded)
    batch, steps_per_epoch = steps(data, training)
    each = training.images_per_class
    slots = tf.constant(_slots(data.class_ids, each)) if each else None
    pixels = decoded(data, preprocess, config) if pixels is None else pixels
    images_at = _source(data, preprocess, pixels)
    with tf.device("/cpu:0"):
        labels = tf.constant(data.class_ids, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def epoch(number):
        seed = tf.stack([tf.constant(training.seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seed=seed)
        if slots is not None:
            by_class = tf.gather(order, tf.argsort(tf.gather(labels, order), stable=True))
            groups = tf.random.experimental.stateless_shuffle(slots, seed=seed + tf.constant([2**32, 0], tf.int64))
            order = tf.reshape(tf.gather(by_class, groups), [-1])
        rows = order[: steps_per_epoch * batch]
        return tf.data.Dataset.from_tensor_slices(rows).batch(batch, drop_remainder=True)

    @tf.autograph.experimental.do_not_convert
    def load(step, rows):
        images = tf.ensure_shape(images_at(rows), [batch, *config.model.image])
        seed = tf.stack([tf.constant(training.seed + 1, tf.int64), step])
        label = tf.gather(labels, rows)
        return (augment.augment(images, seed, config.augment), label), label

    rows = tf.data.Dataset.range(first_epoch, training.epochs).flat_map(epoch)
    loaded = rows.enumerate(first_epoch * steps_per_epoch).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    # Every worker makes the whole batch and keeps its rows: the draws of a row do not depend on how many there are.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return loaded.prefetch(tf.data.AUTOTUNE).with_options(options), steps_per_epoch

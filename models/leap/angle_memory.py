"""The angle memory of LEAP: class centres, the last angles to them, and their statistics kept as running sums."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from longtail.models import config
from longtail.models import errors
from longtail.models import head_tail
from longtail.models import settings
from longtail.models.training import workers


def angle_between(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Angle between the rows of two float32 [N, d], radians in [0, pi]; pi/2 where a row is zero.

    2 atan2(|u - v|, |u + v|) on unit vectors: unlike acos it is exact near 0 and pi, and finite everywhere.

    Example: an angle of 45 degrees.

    >>> angle = angle_memory.angle_between(tf.constant([[2.0, 0.0]]), tf.constant([[1.0, 1.0]]))
    >>> (angle.numpy() / np.pi).round(3)
    array([0.25], dtype=float32)
    """
    u = tf.math.l2_normalize(a, axis=-1)
    v = tf.math.l2_normalize(b, axis=-1)
    return 2.0 * tf.atan2(tf.norm(u - v, axis=-1), tf.norm(u + v, axis=-1))


def add_state(layer: tf.keras.layers.Layer, name: str, shape: list[int], dtype: tf.DType) -> tf.Variable:
    """A weight of zeros that training updates and the optimiser does not; every replica writes the same.

    Example:

    >>> layer = tf.keras.layers.Layer()
    >>> angle_memory.add_state(layer, "seen", [2], tf.int64).numpy()
    array([0, 0])
    >>> len(layer.weights), len(layer.trainable_weights)
    (1, 0)
    """
    return layer.add_weight(
        name,
        shape=shape,
        dtype=dtype,
        initializer="zeros",
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_WRITE,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def _runs(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """For each row of a batch: its class's number in the batch, its rank in it, its size, and whether it is first.

    Static shapes and no `tf.unique`, so it compiles under XLA.
    """
    order = tf.argsort(labels, stable=True)
    ordered = tf.gather(labels, order)
    starts = tf.concat([[True], ordered[1:] != ordered[:-1]], axis=0)
    run = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    position = tf.range(tf.size(labels))
    size_of_batch = tf.size(labels)
    first = tf.math.unsorted_segment_min(position, run, size_of_batch)
    size = tf.math.unsorted_segment_sum(tf.ones_like(position), run, size_of_batch)
    back = tf.math.invert_permutation(order)
    rank = position - tf.gather(first, run)
    return (
        tf.gather(run, back),
        tf.gather(rank, back),
        tf.gather(tf.gather(size, run), back),
        tf.gather(starts, back),
    )


class AngleMemory(tf.keras.layers.Layer):
    """Centres c_i (Eq. 4), the last S_i = K_i * P angles to them (Eq. 5), and each class's angular variance.

    The angles of all classes lie in one flat weight with offsets, so that a head class's long memory costs the tail
    nothing: sum(S_i) * 4 bytes, plus C * (4 d + 24) for centres, counters and sums. Mean and variance come from
    float64 sums that each step changes by what enters and what leaves: a step costs O(batch log batch), whatever the
    number of classes or the size of the memory. `recompute` makes the sums anew; training calls it once an epoch.

    All state is float32, float64 or int64 in non-trainable weights; mixed precision does not touch it. Under
    `tf.distribute` every replica gathers the whole batch and makes the same update.

    Args:
      counts: int [C], K_i: distinct images of each class.
      images_kept: P, how many angles are kept for each image of a class.
      centre_momentum: gamma, the weight of the previous centre.
      angle_order: "after" takes the angle to the updated centre (the paper's), "before" to the previous one.
      head_threshold: T; classes with K_i > T are head classes.

    Example: class 0 sees two directions at right angles, class 1 the same one twice. The first angle of a class is 0,
    so class 0 remembers {0, pi / 2}, whose variance is pi^2 / 8.

    >>> memory = angle_memory.AngleMemory(counts=[2, 2], angle_order="before")
    >>> for batch in ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]):
    ...     variance, known = memory(tf.constant(batch), labels=tf.constant([0, 1]))
    >>> variance.numpy() / np.pi**2, known.numpy()
    (array([0.125, 0.   ], dtype=float32), array([ True,  True]))

    Reference: Liu et al., Deep Representation Learning on Long-Tailed Data: A Learnable Embedding Augmentation
    Perspective, CVPR 2020, Eq. 3 to 5.
    """

    def __init__(
        self,
        counts: npt.ArrayLike,
        images_kept: int = config.Leap.images_kept,
        centre_momentum: float = config.Leap.centre_momentum,
        angle_order: str = config.Leap.angle_order,
        head_threshold: int = config.Leap.head_threshold,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"  # always, also under mixed precision
        super().__init__(autocast=False, **kwargs)
        counts = np.asarray(counts, np.int64)
        if counts.ndim != 1 or counts.size < 2 or counts.min() < 1:
            raise errors.UsageError(
                "`counts` must be [C] with C >= 2 and every K_i >= 1. "
                f"Received: shape {counts.shape}, least {counts.min() if counts.size else 'none'}"
            )
        settings.check_values(
            config.Leap,
            "leap.",
            images_kept=images_kept,
            centre_momentum=centre_momentum,
            angle_order=angle_order,
            head_threshold=head_threshold,
        )
        self.counts: np.ndarray = counts
        self.images_kept = images_kept
        self.centre_momentum = centre_momentum
        self.angle_order = angle_order
        self.head_threshold = head_threshold

    def build(self, input_shape):
        classes = len(self.counts)
        sizes = self.counts * self.images_kept
        with tf.init_scope():
            self._sizes = tf.constant(sizes, tf.int64)
            self._offsets = tf.constant(np.cumsum(sizes) - sizes, tf.int64)
            self._bin = tf.constant(sizes.sum(), tf.int64)
            self._weight = tf.constant(self.counts - 1, tf.float64)
            self.is_head = tf.constant(head_tail.is_head(self.counts, self.head_threshold))
        self.centres = add_state(self, "centres", [classes, input_shape[-1]], tf.float32)
        # One place more than the memories need: what does not stay is written there.
        self.angles = add_state(self, "angles", [int(sizes.sum()) + 1], tf.float32)
        self.seen = add_state(self, "seen", [classes], tf.int64)
        self.sums = add_state(self, "sums", [classes], tf.float64)
        self.squares = add_state(self, "squares", [classes], tf.float64)
        # Over classes that have a variance: sum (K_i - 1) var_i, sum (K_i - 1), sum over head of var_i, their number.
        self.totals = add_state(self, "totals", [4], tf.float64)
        super().build(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "counts": self.counts.tolist(),
            "images_kept": self.images_kept,
            "centre_momentum": self.centre_momentum,
            "angle_order": self.angle_order,
            "head_threshold": self.head_threshold,
        }

    def call(self, features: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes in one batch and answers the variance of each row's class.

        Args:
          features: [B, d] embeddings, any float dtype; no gradient flows. What is not finite counts as zero.
          labels: int [B], class ids.

        Returns:
          float32 [B], the angular variance of each row's class, rad^2; and bool [B], whether it is known: a class
          with fewer than two angles has none.
        """
        features = tf.cast(tf.stop_gradient(features), tf.float32)
        # One row that overflowed would stay in its centre and in all sums.
        features = tf.where(tf.math.is_finite(features), features, 0.0)
        labels = tf.cast(labels, tf.int64)
        self._update(*workers.whole_batch(features, labels))
        variance, known = self.variance(labels)
        return tf.cast(variance, tf.float32), known

    def variance(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Unbiased angular variance of classes `labels` (int64 [N]): float64 [N], rad^2, and whether it is known."""
        filled = self._filled(labels)
        n = tf.cast(filled, tf.float64)
        total = tf.gather(self.sums, labels)
        spread = tf.gather(self.squares, labels) - total * total / tf.maximum(n, 1.0)
        return tf.maximum(spread, 0.0) / tf.maximum(n - 1.0, 1.0), filled >= 2

    def mean(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean angle of classes `labels` (int64 [N]): float64 [N], radians, and whether it is known."""
        filled = self._filled(labels)
        return tf.gather(self.sums, labels) / tf.cast(tf.maximum(filled, 1), tf.float64), filled >= 1

    def pooled_variance(self) -> tf.Tensor:
        """Eq. 9: sum (K_i - 1) var_i / sum (K_i - 1), float32 scalar; 0 where nothing is known yet."""
        return tf.cast(tf.math.divide_no_nan(self.totals[0], self.totals[1]), tf.float32)

    def head_variance(self) -> tf.Tensor:
        """Eq. 6: the mean variance of the head classes, float32 scalar; 0 where nothing is known yet."""
        return tf.cast(tf.math.divide_no_nan(self.totals[2], self.totals[3]), tf.float32)

    def _filled(self, labels):
        return tf.minimum(tf.gather(self.seen, labels), tf.gather(self._sizes, labels))

    def _update(self, features, labels):
        run, rank, size, first = _runs(labels)
        before = self._contribution(labels, first)
        seen = tf.gather(self.seen, labels)
        angles = self._move_centres(features, labels, run, size, seen)
        self._remember(angles, labels, rank, size, seen)
        self.totals.assign_add(self._contribution(labels, first) - before)

    def _contribution(self, labels, counted):
        """What the classes `labels`, each where `counted`, add to the totals: float64 [4]."""
        variance, known = self.variance(labels)
        one = tf.cast(tf.logical_and(known, counted), tf.float64)
        weight = one * tf.gather(self._weight, labels)
        head = one * tf.cast(tf.gather(self.is_head, labels), tf.float64)
        parts = tf.stack([weight * variance, weight, head * variance, head])
        return tf.reduce_sum(parts, axis=1)

    def _move_centres(self, features, labels, run, size, seen):
        """Eq. 4 for the classes of a batch; returns each row's angle to its centre (Eq. 3)."""
        total = tf.math.unsorted_segment_sum(features, run, tf.size(labels))
        mean = tf.gather(total, run) / tf.cast(size, tf.float32)[:, tf.newaxis]
        previous = tf.gather(self.centres, labels)
        is_new = (seen == 0)[:, tf.newaxis]
        moved = (1.0 - self.centre_momentum) * mean + self.centre_momentum * previous
        centre = tf.where(is_new, mean, moved)
        # Rows of one class write the same centre, so the order of the writes does not matter.
        self.centres.scatter_update(tf.IndexedSlices(centre, labels))
        reference = centre if self.angle_order == "after" else tf.where(is_new, mean, previous)
        return angle_between(features, reference)

    def _remember(self, angles, labels, rank, size, seen):
        """Eq. 5: writes the angles into their classes' memories; the sums change by what enters and what leaves."""
        capacity = tf.gather(self._sizes, labels)
        rank = tf.cast(rank, tf.int64)
        stays = rank >= tf.cast(size, tf.int64) - capacity  # more rows than slots: the last ones stay
        slot = (seen + rank) % capacity
        place = tf.where(stays, tf.gather(self._offsets, labels) + slot, self._bin)
        evicts = tf.logical_and(stays, slot < seen)
        old = tf.cast(tf.where(evicts, tf.gather(self.angles, place), 0.0), tf.float64)
        new = tf.cast(tf.where(stays, angles, 0.0), tf.float64)
        self.angles.scatter_update(tf.IndexedSlices(angles, place))
        self.sums.scatter_add(tf.IndexedSlices(new - old, labels))
        self.squares.scatter_add(tf.IndexedSlices(new * new - old * old, labels))
        self.seen.scatter_add(tf.IndexedSlices(tf.ones_like(labels), labels))

    def recompute(self) -> None:
        """Makes all sums anew from the memory: O(sum S_i). Float64 drift never adds up beyond one epoch."""
        classes = len(self.counts)
        owner = tf.repeat(tf.range(classes, dtype=tf.int64), self._sizes)
        slot = tf.range(self._bin) - tf.gather(self._offsets, owner)
        angles = tf.cast(self.angles[:-1], tf.float64)
        angles = tf.where(slot < tf.gather(self.seen, owner), angles, 0.0)
        self.sums.assign(tf.math.unsorted_segment_sum(angles, owner, classes))
        self.squares.assign(tf.math.unsorted_segment_sum(angles * angles, owner, classes))
        everyone = tf.range(classes, dtype=tf.int64)
        self.totals.assign(self._contribution(everyone, tf.ones([classes], tf.bool)))

"""The angle memory of LEAP: class centres, the last angles to them, and their statistics kept as running sums."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from longtail.models import config
from longtail.models import errors
from longtail.models import head_tail
from longtail.models import settings
from longtail.models.leap import batch_runs
from longtail.models.leap import small_classes
from longtail.models.training import workers

# Corrected statistics keep a centre of some twenty images, and take each image's angle before it is in the centre.
_SLOW_MOMENTUM = 0.9
# How many images' worth of the pooled variance is mixed into a class's own. A variance of n angles is off by a factor
# of sqrt(2 / n): where the classes' true ones differ by half, 2 / 0.5^2 = 8 images is where both know as much.
_PRIOR_IMAGES = 8


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


def add_state(
    layer: tf.keras.layers.Layer,
    name: str,
    shape: list[int],
    dtype: tf.DType,
    initializer: str | tf.keras.initializers.Initializer = "zeros",
) -> tf.Variable:
    """A weight that training updates and the optimiser does not; every replica writes the same.

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
        initializer=initializer,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_WRITE,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
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
      statistics: "paper" for all of the above as it is. "corrected" keeps the centres with gamma = 0.9 and takes angles
        before they move, whatever `centre_momentum` and `angle_order` say, so that an image is compared with others;
        and answers the variance (reading - b mean^2) / a, with `small_classes.factors`, that does not hang on the
        number of images. Classes of fewer than three have none.

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
        statistics: str = config.Leap.statistics,
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
            statistics=statistics,
        )
        self.counts: np.ndarray = counts
        self.images_kept = images_kept
        self.centre_momentum = centre_momentum
        self.angle_order = angle_order
        self.head_threshold = head_threshold
        self.statistics = statistics
        self._corrects = statistics == "corrected"
        self._gamma = _SLOW_MOMENTUM if self._corrects else centre_momentum
        self._is_after = angle_order == "after" and not self._corrects

    def build(self, input_shape):
        classes = len(self.counts)
        sizes = self.counts * self.images_kept
        with tf.init_scope():
            self._sizes = tf.constant(sizes, tf.int64)
            self._offsets = tf.constant(np.cumsum(sizes) - sizes, tf.int64)
            self._bin = tf.constant(sizes.sum(), tf.int64)
            self._weight = tf.constant(self.counts - 1, tf.float64)
            self.is_head = tf.constant(head_tail.is_head(self.counts, self.head_threshold))
            if self._corrects:
                self._factors = tf.constant(self._small_class_factors(), tf.float64)
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
            "statistics": self.statistics,
        }

    def _small_class_factors(self) -> np.ndarray:
        """float64 [C, 2], a and b of `small_classes`; 1 and 0 of classes too small to have a variance."""
        sizes = np.minimum(self.counts, small_classes.MOST_IMAGES).tolist()
        of_size = {
            n: small_classes.factors(n, self.images_kept, self._gamma) if n > 2 else (1.0, 0.0) for n in set(sizes)
        }
        return np.array([of_size[n] for n in sizes])

    def call(
        self, features: tf.Tensor, labels: tf.Tensor, is_due: tf.Tensor | bool = True
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes in one batch and answers the variance of each row's class.

        Args:
          features: [B, d] embeddings, any float dtype; no gradient flows. What is not finite counts as zero.
          labels: int [B], class ids.
          is_due: whether the batch is taken in; if not, nothing changes.

        Returns:
          float32 [B], the angular variance of each row's class, rad^2; and bool [B], whether it is known: a class
          with fewer than two angles has none.
        """
        features = tf.cast(tf.stop_gradient(features), tf.float32)
        # One row that overflowed would stay in its centre and in all sums.
        features = tf.where(tf.math.is_finite(features), features, 0.0)
        labels = tf.cast(labels, tf.int64)
        every_feature, every_label = workers.whole_batch(features, labels)
        self._update(every_feature, every_label, is_due)
        variance, known = self.variance(labels)
        return tf.cast(variance, tf.float32), known

    def variance(self, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Angular variance of classes `labels` (int64 [N]): float64 [N], rad^2, and whether it is known."""
        filled = self._filled(labels)
        n = tf.cast(filled, tf.float64)
        total = tf.gather(self.sums, labels)
        spread = tf.gather(self.squares, labels) - total * total / tf.maximum(n, 1.0)
        variance = tf.maximum(spread, 0.0) / tf.maximum(n - 1.0, 1.0)
        if not self._corrects:
            return variance, filled >= 2
        a, b = tf.unstack(tf.gather(self._factors, labels), axis=1)
        mean = total / tf.maximum(n, 1.0)
        is_enough = tf.gather(self._weight, labels) >= 2.0  # three images
        return tf.maximum(variance - b * mean * mean, 0.0) / a, tf.logical_and(filled >= 2, is_enough)

    def shrunk(self, labels: tf.Tensor, variance: tf.Tensor, known: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What a class's variance is to be taken for, given what `call` answers of classes `labels`; of the same form.

        Corrected statistics answer (n v_i + n0 v_pool) / (n + n0) with n = K_i - 2, since centre and mean angle take
        two, and n0 = 8: v_pool alone for the smallest classes. The paper's answer v_i.
        """
        if not self._corrects:
            return variance, known
        n = tf.cast(tf.maximum(tf.gather(self._weight, labels) - 1.0, 0.0), tf.float32)
        n = tf.where(known, n, 0.0)
        shrunk = (n * variance + _PRIOR_IMAGES * self.pooled_variance()) / (n + _PRIOR_IMAGES)
        return shrunk, tf.fill(tf.shape(known), self.totals[1] > 0.0)

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

    def _update(self, features, labels, is_due):
        run, rank, size, first = batch_runs.runs(labels)
        before = self._contribution(labels, first)
        seen = tf.gather(self.seen, labels)
        angles = self._move_centres(features, labels, run, size, seen, is_due)
        self._remember(angles, labels, rank, size, seen, is_due)
        self.totals.assign_add(self._contribution(labels, first) - before)

    def _contribution(self, labels, counted):
        """What the classes `labels`, each where `counted`, add to the totals: float64 [4]."""
        variance, known = self.variance(labels)
        one = tf.cast(tf.logical_and(known, counted), tf.float64)
        weight = one * tf.gather(self._weight, labels)
        head = one * tf.cast(tf.gather(self.is_head, labels), tf.float64)
        parts = tf.stack([weight * variance, weight, head * variance, head])
        return tf.reduce_sum(parts, axis=1)

    def _move_centres(self, features, labels, run, size, seen, is_due):
        """Eq. 4 for the classes of a batch; returns each row's angle to its centre (Eq. 3)."""
        total = tf.math.unsorted_segment_sum(features, run, tf.size(labels))
        mean = tf.gather(total, run) / tf.cast(size, tf.float32)[:, tf.newaxis]
        previous = tf.gather(self.centres, labels)
        is_new = (seen == 0)[:, tf.newaxis]
        moved = (1.0 - self._gamma) * mean + self._gamma * previous
        centre = tf.where(is_new, mean, moved)
        # Rows of one class write the same centre, so the order of the writes does not matter.
        self.centres.scatter_update(tf.IndexedSlices(tf.where(is_due, centre, previous), labels))
        reference = centre if self._is_after else tf.where(is_new, mean, previous)
        return angle_between(features, reference)

    def _remember(self, angles, labels, rank, size, seen, is_due):
        """Eq. 5: writes the angles into their classes' memories; the sums change by what enters and what leaves."""
        capacity = tf.gather(self._sizes, labels)
        rank = tf.cast(rank, tf.int64)
        # More rows than slots: the last ones stay.
        stays = tf.logical_and(rank >= tf.cast(size, tf.int64) - capacity, is_due)
        slot = (seen + rank) % capacity
        place = tf.where(stays, tf.gather(self._offsets, labels) + slot, self._bin)
        evicts = tf.logical_and(stays, slot < seen)
        old = tf.cast(tf.where(evicts, tf.gather(self.angles, place), 0.0), tf.float64)
        new = tf.cast(tf.where(stays, angles, 0.0), tf.float64)
        self.angles.scatter_update(tf.IndexedSlices(angles, place))
        self.sums.scatter_add(tf.IndexedSlices(new - old, labels))
        self.squares.scatter_add(tf.IndexedSlices(new * new - old * old, labels))
        self.seen.scatter_add(tf.IndexedSlices(tf.fill(tf.shape(labels), tf.cast(is_due, tf.int64)), labels))

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

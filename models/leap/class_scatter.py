"""Where images lie around the centre of their class, one matrix for all: what a directional cloud is made of."""

import tensorflow as tf

from longtail.models import config
from longtail.models.leap import angle_memory
from longtail.models.leap import batch_runs
from longtail.models.training import workers

_CENTRE_MOMENTUM = 0.9  # of the previous centre
_RATE = 0.05  # of what a batch says about the scatter


class ClassScatter(tf.keras.layers.Layer):
    """The pooled within-class scatter Sigma = E[(u - c_y)(u - c_y)'] of unit embeddings u [d], kept while it moves.

    c_y is a running mean of the class's unit embeddings (weight 0.9 on the previous one), taken before the batch moves
    it, so that an embedding is compared with others. A batch changes Sigma by 0.05 of what it says, the first ones by
    more (1 / number of batches). The widest `rank` directions of Sigma are followed by a step of subspace iteration a
    batch. State is float32: C d for the centres, d^2 + d rank for Sigma. A step costs O(B d^2 + B^2 d + d^2 rank).

    Under `tf.distribute` every replica gathers the whole batch and makes the same update.

    Args:
      classes: C.
      rank: r, how many directions are followed; all d of them where there are no more.

    Example: the second batch lies at a right angle to the first.

    >>> scatter = class_scatter.ClassScatter(classes=2)
    >>> for batch in ([[3.0, 0.0]], [[0.0, 5.0]]):
    ...     root = scatter(tf.constant(batch), labels=tf.constant([1]))
    >>> (root @ tf.transpose(root)).numpy().round(3)
    array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(self, classes: int, rank: int = config.Leap.rank, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.classes = classes
        self.rank = rank

    def build(self, input_shape):
        dimension = input_shape[-1]
        self.centres = angle_memory.add_state(self, "unit_centres", [self.classes, dimension], tf.float32)
        self.seen = angle_memory.add_state(self, "seen", [self.classes], tf.bool)
        self.sigma = angle_memory.add_state(self, "sigma", [dimension, dimension], tf.float32)
        self.directions = angle_memory.add_state(
            self,
            "directions",
            [dimension, min(self.rank, dimension)],
            tf.float32,
            tf.keras.initializers.Orthogonal(seed=0),
        )
        self.batches = angle_memory.add_state(self, "batches", [], tf.int64)
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "rank": self.rank}

    def call(self, features: tf.Tensor, labels: tf.Tensor, is_due: tf.Tensor | bool = True) -> tf.Tensor:
        """Takes in one batch, if it is due; answers R, float32 [d, r]: R R' is Sigma in its r widest directions.

        Args:
          features: [B, d] embeddings, any float dtype; no gradient flows. Rows that are not finite are left out.
          labels: int [B], class ids.
          is_due: whether the batch is taken in.
        """
        features = tf.cast(tf.stop_gradient(features), tf.float32)
        every_feature, every_label = workers.whole_batch(features, tf.cast(labels, tf.int64))
        self._update(every_feature, every_label, is_due)
        return self.root()

    def root(self) -> tf.Tensor:
        """R as it stands, float32 [d, r]: the directions by the square roots of the variances along them."""
        along = tf.reduce_sum(self.directions * tf.matmul(self.sigma, self.directions), axis=0)
        return self.directions * tf.sqrt(tf.nn.relu(along))

    def point(self) -> None:
        """Points the directions to where Sigma is widest, as after it was taken over from another training."""
        _, vectors = tf.linalg.eigh(self.sigma)
        self.directions.assign(vectors[:, -self.directions.shape[1] :])

    def _update(self, features, labels, is_due):
        is_good = tf.reduce_all(tf.math.is_finite(features), axis=1, keepdims=True)
        unit = tf.math.l2_normalize(tf.where(is_good, features, 0.0), axis=1)
        previous = tf.gather(self.centres, labels)
        was_seen = tf.gather(self.seen, labels)[:, tf.newaxis]
        counts = tf.logical_and(tf.logical_and(is_good, was_seen), is_due)
        apart = tf.where(counts, unit - previous, 0.0)
        rows = tf.reduce_sum(tf.cast(counts, tf.float32))
        self._follow(tf.math.divide_no_nan(tf.matmul(apart, apart, transpose_a=True), rows), rows > 0.0)
        self._move(unit, labels, is_good, previous, was_seen, is_due)

    def _follow(self, said, is_known):
        batches = self.batches + tf.cast(is_known, tf.int64)
        rate = tf.maximum(_RATE, 1.0 / tf.cast(tf.maximum(batches, 1), tf.float32))
        self.sigma.assign(self.sigma + tf.where(is_known, rate, 0.0) * (said - self.sigma))
        self.batches.assign(batches)
        basis, _ = tf.linalg.qr(tf.matmul(self.sigma, self.directions))
        _, turn = tf.linalg.eigh(tf.matmul(basis, tf.matmul(self.sigma, basis), transpose_a=True))
        self.directions.assign(tf.where(is_known, tf.matmul(basis, turn), self.directions))

    def _move(self, unit, labels, is_good, previous, was_seen, is_due):
        """Moves the centres of the classes of a batch; rows of one class write the same."""
        run, *_ = batch_runs.runs(labels)
        size_of_batch = tf.size(labels)
        total = tf.math.unsorted_segment_sum(unit, run, size_of_batch)
        good = tf.math.unsorted_segment_sum(tf.cast(is_good, tf.float32), run, size_of_batch)
        mean, good = tf.gather(tf.math.divide_no_nan(total, good), run), tf.gather(good, run)
        moved = tf.where(was_seen, _CENTRE_MOMENTUM * previous + (1.0 - _CENTRE_MOMENTUM) * mean, mean)
        moves = tf.logical_and(good > 0.0, is_due)
        self.centres.scatter_update(tf.IndexedSlices(tf.where(moves, moved, previous), labels))
        now_seen = tf.logical_or(tf.gather(self.seen, labels), moves[:, 0])
        self.seen.scatter_update(tf.IndexedSlices(now_seen, labels))

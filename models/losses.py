"""What is made of a head's logits: cross-entropy, its balanced forms for long tails, triplets, and the centre loss."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import settings as settings_lib
from longtail.models.leap import angle_memory
from longtail.models.training import workers


def effective_number_weights(counts: npt.ArrayLike, beta: float) -> np.ndarray:
    """Weights (1 - beta) / (1 - beta^K_i), scaled to a mean of 1: float64 [C] from int [C].

    beta = 0 weighs all alike, beta towards 1 by 1 / K_i.

    Example: 1 and (1 - 1/2) / (1 - 1/4) = 2/3, scaled by 6/5.

    >>> losses.effective_number_weights([1, 2], beta=0.5)
    array([1.2, 0.8])

    Reference: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, Eq. 2.
    """
    counts = np.asarray(counts, np.float64)
    if counts.min() < 1:
        raise errors.UsageError(f"an effective number needs every K_i >= 1. Received: {counts.min()}")
    settings_lib.check_values(config_lib.Loss, "loss.", beta=beta)
    # 1 - beta^K without the cancellation at beta near 1; beta = 0 makes log(beta) minus infinity, and all weights 1.
    with np.errstate(divide="ignore"):
        weights = -1.0 / np.expm1(counts * np.log(beta))
    return weights / weights.mean()


class ClassBalanced(tf.keras.losses.Loss):
    """Cross-entropy with each row weighed by its class's effective number, from a step on (0: from the first).

    Labels int [B], logits float [B, C].

    Args:
      counts: int [C], images of each class, as an epoch draws them.
      beta: of `effective_number_weights`.
      step: int64 scalar variable, steps done; read, never written.
      start_step: rows weigh alike before it.

    Example: the cross-entropy of equal logits is log 2, here weighed by 1.2.

    >>> loss = losses.ClassBalanced(counts=[1, 2], beta=0.5, step=tf.Variable(0, dtype=tf.int64))
    >>> (loss([0], tf.zeros([1, 2])) / np.log(2)).numpy().round(4)
    1.2

    Reference: Cui et al., CVPR 2019, Eq. 2; beginning late is the deferred re-weighting of Cao et al., NeurIPS 2019.
    """

    def __init__(self, counts: npt.ArrayLike, beta: float, step: tf.Variable, start_step: int = 0):
        super().__init__(name="class_balanced")
        self._weights = tf.constant(effective_number_weights(counts, beta), tf.float32)
        self._step = step
        self._start_step = start_step

    def call(self, y_true, y_pred):
        labels = tf.cast(tf.reshape(y_true, [-1]), tf.int32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, y_pred)
        weights = tf.gather(self._weights, labels)
        return losses * tf.where(self._step >= self._start_step, weights, 1.0)


class BalancedSoftmax(tf.keras.losses.Loss):
    """Cross-entropy of logits + log K_j: the softmax under the training set's own class shares.

    Labels int [B], logits float [B, C].

    Args:
      counts: int [C], images of each class, as an epoch draws them.

    Example: at equal logits the rare class has a softmax of 1 / 4, its share of the images.

    >>> loss = losses.BalancedSoftmax(counts=[3, 1])
    >>> (loss([1], tf.zeros([1, 2])) / np.log(4)).numpy().round(4)
    1.0

    Reference: Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, Eq. 4.
    """

    def __init__(self, counts: npt.ArrayLike):
        super().__init__(name="balanced_softmax")
        counts = np.asarray(counts, np.float64)
        if counts.min() < 1:
            raise errors.UsageError(f"balanced softmax needs every K_i >= 1. Received: {counts.min()}")
        self._log_counts = tf.constant(np.log(counts), tf.float32)

    def call(self, y_true, y_pred):
        labels = tf.cast(tf.reshape(y_true, [-1]), tf.int32)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, y_pred + self._log_counts)


# By the names recipes use: of the settings, counts, step and steps an epoch that `build_loss` has.
LOSSES: dict[str, Callable[[config_lib.Loss, npt.ArrayLike, tf.Variable, int], tf.keras.losses.Loss]] = {
    "cross_entropy": lambda *_: tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "class_balanced": lambda settings, counts, step, steps: ClassBalanced(
        counts, settings.beta, step, settings.start_epoch * steps
    ),
    "balanced_softmax": lambda _, counts, *__: BalancedSoftmax(counts),
}


def build_loss(
    config: config_lib.TrainConfig, counts: npt.ArrayLike, step: tf.Variable, steps_per_epoch: int
) -> tf.keras.losses.Loss:
    """The loss a training asks for, of int [C] images an epoch draws of each class; `step` counts the optimiser's.

    Example:

    >>> step = tf.Variable(0, dtype=tf.int64)
    >>> type(losses.build_loss(config.TrainConfig(), counts=[3, 1], step=step, steps_per_epoch=1)).__name__
    'SparseCategoricalCrossentropy'
    """
    if config.head.name == "triplet":
        import tensorflow_addons as tfa  # Addons is at its end of life: imported where it is used, never further

        return tfa.losses.TripletSemiHardLoss(config.head.margin, distance_metric="squared-L2")
    return LOSSES[config.loss.name](config.loss, counts, step, steps_per_epoch)


def metric_l2(features: tf.Tensor, prototypes: tf.Tensor) -> tf.Tensor:
    """m-L2, mean |W' f|^2 (Eq. 3): float32 scalar of embeddings [B, d] of any float dtype and class weights [d, C].

    It holds down embeddings and class weights together, each in the directions in which the other is long.

    Example: the squares of 6 and 4.

    >>> float(losses.metric_l2(tf.constant([[3.0, 4.0]]), tf.constant([[2.0, 0.0], [0.0, 1.0]])))
    52.0

    Reference: Yin et al., Feature Transfer Learning for Face Recognition With Under-Represented Data, CVPR 2019.
    """
    products = tf.matmul(tf.cast(features, tf.float32), prototypes)
    return tf.reduce_mean(tf.reduce_sum(tf.square(products), axis=-1))


def reconstruction(drawn: tf.Tensor, images: tf.Tensor, over: str = config_lib.Loss.reconstruction_over) -> tf.Tensor:
    """|x' - x|^2 of float [B, h, w, c], the mean over images of the `mean` or `sum` over pixels: float32 scalar.

    Example:

    >>> drawn, images = tf.ones([2, 2, 2, 1]), tf.zeros([2, 2, 2, 1])
    >>> float(losses.reconstruction(drawn, images)), float(losses.reconstruction(drawn, images, over="sum"))
    (1.0, 4.0)

    Reference: Yin et al., Feature Transfer Learning for Face Recognition With Under-Represented Data, CVPR 2019, Eq. 2.
    """
    squares = tf.square(tf.cast(drawn, tf.float32) - tf.cast(images, tf.float32))
    mean = tf.reduce_mean(squares)
    return mean * float(np.prod(images.shape[1:])) if over == "sum" else mean


class CentreLoss(tf.keras.layers.Layer):
    """lambda / 2 * mean |f - c_y|^2, and centres that follow: an addition to any classification loss.

    Each centre of a batch moves by rate * sum (f - c) / (1 + n), n its rows in the batch. The paper has rate (alpha)
    0.5 and weight (lambda) 0.003. The sum of Eq. 2 is taken as a mean, as its implementations do.

    Args:
      classes: C.
      weight: lambda.
      rate: alpha.

    Example: an embedding at distance 5 from a centre at 0, which then moves a quarter of the way.

    >>> layer = losses.CentreLoss(classes=2, weight=1.0, rate=0.5)
    >>> float(layer(tf.constant([[3.0, 4.0]]), labels=tf.constant([0])))
    12.5
    >>> layer.centres.numpy()[0]
    array([0.75, 1.  ], dtype=float32)

    Reference: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016, Eq. 2 to 4.
    """

    def __init__(self, classes: int, weight: float, rate: float = config_lib.Loss.centre_rate, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        settings_lib.check_values(config_lib.Loss, "loss.", centre_weight=weight, centre_rate=rate)
        self.classes = classes
        self.weight = weight
        self.rate = rate

    def build(self, input_shape):
        self.centres = angle_memory.add_state(self, "centres", [self.classes, input_shape[-1]], tf.float32)
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "weight": self.weight, "rate": self.rate}

    def call(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """float32 scalar, the loss of features [B, d] of any float dtype and labels int [B]; then moves the centres."""
        features = tf.cast(features, tf.float32)
        # One row that overflowed would stay in its centre.
        features = tf.where(tf.math.is_finite(features), features, 0.0)
        apart = features - tf.gather(self.centres, labels)
        loss = 0.5 * self.weight * tf.reduce_mean(tf.reduce_sum(tf.square(apart), axis=-1))
        self._follow(tf.stop_gradient(features), labels)
        return loss

    def _follow(self, features, labels):
        features, labels = workers.whole_batch(features, labels)
        apart = features - tf.gather(self.centres, labels)
        same = tf.cast(tf.equal(labels[:, tf.newaxis], labels[tf.newaxis, :]), tf.float32)
        rows = tf.reduce_sum(same, axis=1, keepdims=True)
        self.centres.scatter_add(tf.IndexedSlices(self.rate * apart / (1.0 + rows), labels))

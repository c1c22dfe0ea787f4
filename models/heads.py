"""Classification heads: embedding and label in, logits out. A head overrides what happens to the target's cosine."""

from collections.abc import Sequence

import tensorflow as tf

from models import cloud_noise
from models import errors
from models import feature_cloud

COSINE_LIMIT = cloud_noise.COSINE_LIMIT
shifted_cosine = cloud_noise.shifted_cosine

# Squared lengths of features below this are taken for this: s / |f| stays finite in float16.
_LEAST_SQUARE = 1e-6
# Prototypes shorter than this are taken for zero.
_LEAST_LENGTH = 1e-6
# Numbers in a block of prototypes that is squared at once.
_BLOCK = 2**20


def inverse_lengths(prototypes: tf.Tensor) -> tf.Tensor:
    """One over the length of each column of float32 [d, C]: finite, and without gradient, where a column is zero.

    Cosines scaled after the product cost a pass over [B, C]; prototypes normalised before it, six over [d, C].
    """

    @tf.custom_gradient
    def inverted(prototypes):
        length = tf.sqrt(_squared_lengths(prototypes))
        inverse = 1.0 / tf.maximum(length, _LEAST_LENGTH)

        def gradient(upstream):
            return prototypes * tf.where(length > _LEAST_LENGTH, -upstream * inverse**3, 0.0)

        return inverse, gradient

    return inverted(tf.convert_to_tensor(prototypes))


def _squared_lengths(prototypes):
    """float32 [C], in blocks of rows whose squares fit a cache (at most 32): half the time of one [d, C] of squares."""
    dimension, classes = prototypes.shape
    rows = max(_BLOCK // classes, -(-dimension // 32), 1)
    blocks = [prototypes[start : start + rows] for start in range(0, dimension, rows)]
    return tf.add_n([tf.reduce_sum(tf.square(block), axis=0) for block in blocks])


@tf.custom_gradient
def take_own(matrix: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Float [B, C] as it is, and its entries at `labels` (int32 [B]); their gradients are added up in place."""

    def gradient(upstream, of_own):
        return tf.tensor_scatter_nd_add(upstream, _places(labels), of_own), None

    return (tf.identity(matrix), tf.gather(matrix, labels, batch_dims=1)), gradient


@tf.custom_gradient
def put_own(matrix: tf.Tensor, labels: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """Float [B, C] with `own` [B] in the places of `labels` (int32 [B]): B writes, no pass over the matrix."""

    def gradient(upstream):
        of_own = tf.gather(upstream, labels, batch_dims=1)
        with tf.control_dependencies([of_own]):  # once it is read, its buffer is free to be written
            return tf.tensor_scatter_nd_update(upstream, _places(labels), tf.zeros_like(of_own)), None, of_own

    return tf.tensor_scatter_nd_update(matrix, _places(labels), own), gradient


def _places(labels):
    return tf.stack([tf.range(tf.size(labels)), labels], axis=1)


class Head(tf.keras.layers.Layer):
    """Base of the heads: weights W [d, C], cosines, the cloud, and the target replaced by what `target` answers.

    Called with (features [B, d], labels int [B]); answers float32 logits [B, C], to be put through softmax
    cross-entropy. At inference (training=False) logits carry neither margin nor cloud.

    Args:
      classes: C.
      scale: s, the length the unit embeddings are stretched to.
      margin: m, in the unit the head's equation gives it.
      cloud: a `feature_cloud.FeatureCloud`, or None for the plain head.
      weight_decay: L2 factor on W.
    """

    takes_cloud = True

    def __init__(
        self,
        classes: int,
        scale: float = 1.0,
        margin: float = 0.0,
        cloud: feature_cloud.FeatureCloud | None = None,
        weight_decay: float = 0.0,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"  # logits are float32 also under mixed precision
        super().__init__(autocast=False, **kwargs)
        if classes < 2:
            raise errors.UsageError(f"`classes` must be at least 2. Received: {classes}")
        if scale <= 0.0:
            raise errors.UsageError(f"`scale` must be positive. Received: {scale}")
        if not 0.0 <= margin < 1.6:
            raise errors.UsageError(f"`margin` must be in [0, 1.6). Received: {margin}")
        if cloud is not None and not self.takes_cloud:
            raise errors.UsageError(f"{type(self).__name__} has no angles for a feature cloud; use a margin head")
        if cloud is not None and len(cloud.memory.counts) != classes:
            raise errors.UsageError(
                f"`cloud` counts {len(cloud.memory.counts)} classes and the head {classes}; both come from the census"
            )
        self.classes = classes
        self.scale = scale
        self.margin = margin
        self.cloud = cloud
        self.weight_decay = weight_decay

    def build(self, input_shape):
        dimension = input_shape[0][-1]
        self.prototypes = self.add_weight(
            "prototypes",
            shape=[dimension, self.classes],
            initializer="glorot_uniform",
            regularizer=tf.keras.regularizers.L2(self.weight_decay) if self.weight_decay else None,
        )
        if self.cloud is not None:
            self.cloud.build([None, dimension])
        super().build(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "scale": self.scale,
            "margin": self.margin,
            "cloud": tf.keras.layers.serialize(self.cloud) if self.cloud else None,
            "weight_decay": self.weight_decay,
        }

    @classmethod
    def from_config(cls, config):
        cloud = config.pop("cloud", None)
        if cloud:
            scope = {"FeatureCloud": feature_cloud.FeatureCloud}
            cloud = tf.keras.layers.deserialize(cloud, custom_objects=scope)
        return cls(cloud=cloud, **config)

    def cosines(self, features: tf.Tensor) -> tf.Tensor:
        """float32 [B, C]: cosine of the angle between each embedding and each class weight."""
        return tf.matmul(_unit(features), self.prototypes) * inverse_lengths(self.prototypes)

    def target(self, cosine: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        """The target's entry before scaling: float32 [B] from cos theta_y and alpha_y, both float32 [B]."""
        return shifted_cosine(cosine, alpha)

    def call(self, inputs: Sequence[tf.Tensor], training: bool = False) -> tf.Tensor:
        features, labels = inputs
        if not training:
            return self.scale * self.cosines(features)
        labels = tf.cast(labels, tf.int32)
        inverse = inverse_lengths(self.prototypes)
        products, own = take_own(tf.matmul(_unit(features), self.prototypes), labels)
        own = own * tf.gather(inverse, labels)
        alpha = tf.zeros_like(own)
        if self.cloud is None:
            logits = products * (self.scale * inverse)
        else:
            width, keys = self.cloud.spread(features, labels)
            alpha = width * cloud_noise.draw(keys, tf.bitcast(labels, tf.uint32))
            logits = cloud_noise.clouded_cosines(products, inverse, self.scale, width, keys)
        return put_own(logits, labels, self.scale * self.target(own, alpha))


def _unit(features):
    return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1, epsilon=_LEAST_SQUARE)


class Softmax(Head):
    """Plain softmax classification: logits W^T f + b."""

    takes_cloud = False

    def build(self, input_shape):
        super().build(input_shape)
        self.bias = self.add_weight("bias", shape=[self.classes], initializer="zeros")

    def call(self, inputs, training=False):
        features, _ = inputs
        return tf.matmul(tf.cast(features, tf.float32), self.prototypes) + self.bias


class NormFace(Head):
    """s cos(theta_j): unit features and unit weights, no margin (Wang et al., ACM MM 2017)."""


class CosFace(Head):
    """Target s (cos(theta_y + alpha) - m), Eq. 7 of LEAP; alpha = 0 gives CosFace (Wang et al., CVPR 2018)."""

    def target(self, cosine, alpha):
        return shifted_cosine(cosine, alpha) - self.margin


class ArcFace(Head):
    """Target s cos(theta_y + alpha + m), Eq. 8; alpha = 0 gives ArcFace (Deng et al., CVPR 2019). m in radians."""

    def target(self, cosine, alpha):
        return shifted_cosine(cosine, alpha + self.margin)


HEADS: dict[str, type[Head]] = {
    "softmax": Softmax,
    "normface": NormFace,
    "cosface": CosFace,
    "arcface": ArcFace,
}

"""Classification heads: embedding and label in, logits out. A head overrides what happens to the target's cosine."""

from collections.abc import Sequence

import tensorflow as tf

from models import errors
from models import feature_cloud

# Below this distance from 1 a cosine has no usable angle in float32; also the fence that keeps gradients finite.
COSINE_LIMIT = 1.0 - 1e-6

# Squared lengths below this are taken for this when features are normalised: s / |f| stays finite in float16.
_LEAST_SQUARE = 1e-6


def shifted_cosine(cosine: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """cos(clip(theta + angle, 0, pi)) for theta = acos(cosine), without an acos.

    By the addition theorem, cos theta cos a - sin theta sin a; theta + a < 0 exactly where a < 0 and cos theta >
    cos a, and theta + a > pi exactly where a > 0 and cos theta < -cos a. Clipped entries have no gradient.

    Args:
      cosine: float32, any shape, in [-1, 1]; clipped to +-(1 - 1e-6).
      angle: float32, broadcastable, radians; clipped to [-pi, pi].

    Returns:
      float32 of the broadcast shape, in [-1, 1].
    """
    pi = 3.141592653589793
    cosine = tf.clip_by_value(cosine, -COSINE_LIMIT, COSINE_LIMIT)
    angle = tf.clip_by_value(angle, -pi, pi)
    cos_angle = tf.cos(angle)
    shifted = cosine * cos_angle - tf.sqrt(1.0 - cosine * cosine) * tf.sin(angle)
    shifted = tf.where((angle < 0.0) & (cosine > cos_angle), 1.0, shifted)
    return tf.where((angle > 0.0) & (cosine < -cos_angle), -1.0, shifted)


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
        unit_features = tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1, epsilon=_LEAST_SQUARE)
        return tf.matmul(unit_features, tf.math.l2_normalize(self.prototypes, axis=0))

    def target(self, cosine: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
        """The target's entry before scaling: float32 [B] from cos theta_y and alpha_y, both float32 [B]."""
        return shifted_cosine(cosine, alpha)

    def call(self, inputs: Sequence[tf.Tensor], training: bool = False) -> tf.Tensor:
        features, labels = inputs
        cosine = self.cosines(features)
        if not training:
            return self.scale * cosine
        labels = tf.cast(labels, tf.int32)
        target_cosine = tf.gather(cosine, labels, batch_dims=1)
        alpha = tf.zeros_like(target_cosine)
        if self.cloud is not None:
            clouds = self.cloud(features, labels)
            cosine = shifted_cosine(cosine, clouds)
            alpha = tf.gather(clouds, labels, batch_dims=1)
        target = self.target(target_cosine, alpha)
        is_target = tf.one_hot(labels, self.classes, on_value=True, off_value=False, dtype=tf.bool)
        return self.scale * tf.where(is_target, target[:, tf.newaxis], cosine)


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

"""Heads whose margin is fixed before training: the classic ones, and LDAM's, fixed by the class's size."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.heads import base
from longtail.models.heads import cosine_similarity


class Softmax(base.Head):
    """Plain softmax classification: logits W^T f + b. Scale and margin have no meaning here.

    `bias` 0 leaves b at zero; W begins normally distributed with `deviation`, 0 for Glorot's uniform initialiser.

    Example:

    >>> head = heads.Softmax(2)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.diag([1.0, -1.0]), np.zeros(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[ 3., -4.]], dtype=float32)
    """

    CLOUD_FORMS = ()
    takes_metric = True
    OPTIONS: ClassVar[Mapping[str, base.Option]] = {
        "bias": base.Option(1, 0, 1, whole=True),
        "deviation": base.Option(0.0, 0.0, 10.0),
    }
    TUNED: ClassVar[tuple[str, ...]] = ()
    START = base.Start(1.0, 0.0)

    @property
    def initializer(self):
        deviation = self.options["deviation"]
        return tf.keras.initializers.RandomNormal(stddev=deviation) if deviation else super().initializer

    def build(self, input_shape):
        super().build(input_shape)
        trained = bool(self.options["bias"])
        self.bias = self.add_weight("bias", shape=[self.classes], initializer="zeros", trainable=trained)

    def class_weights(self):
        return {**super().class_weights(), "bias": self.bias}

    def call(self, inputs, training=False):
        features, _ = inputs
        return tf.matmul(tf.cast(features, tf.float32), self.prototypes) + self.bias


class L2Softmax(Softmax):
    """W^T (s f / |f|) + b: features on a sphere of radius s, free weights.

    Example:

    >>> head = heads.L2Softmax(2, scale=10.0)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2), np.zeros(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[6., 8.]], dtype=float32)

    Reference: Ranjan et al., L2-constrained Softmax Loss for Discriminative Face Verification, arXiv 1703.09507, Eq. 4.
    """

    takes_metric = False
    TUNED = ("scale",)
    START = base.Start(24.0, 0.0)

    def call(self, inputs, training=False):
        features, labels = inputs
        return super().call((self.scale * cosine_similarity.unit(features), labels), training)


class NormFace(base.Head):
    """s cos(theta_j): unit features and unit weights, no margin.

    Example:

    >>> head = heads.NormFace(2, scale=10.0)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[6., 8.]], dtype=float32)

    Reference: Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, ACM MM 2017.
    """

    TUNED = ("scale",)
    START = base.Start(24.0, 0.0)


class SphereFace(base.Head):
    """Target s psi(theta_y + alpha), psi(t) = (-1)^k cos(m t) - 2k for t in [k pi / m, (k + 1) pi / m].

    The multiplicative margin; psi falls all the way from 1 at t = 0, for any real m from 1 (no margin) to 4.

    Example: 60 degrees from its class become 120.

    >>> head = heads.SphereFace(2, scale=10.0, margin=2.0)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[1.0, 3.0**0.5]]), tf.constant([0])), training=True).numpy().round(2)
    array([[-5.  ,  8.66]], dtype=float32)

    Reference: Liu et al., CVPR 2017, Eq. 7; on unit features as in SphereFace Revived, Wen et al., TPAMI 2022.
    """

    MARGINS = (1.0, 4.0)
    START = base.Start(24.0, 1.5)
    CLOUD_FORMS = ("drawn", "directional")  # psi of a mean cosine is not the mean of psi

    def target_logit(self, target):
        cosine = target.turned()
        inside = tf.abs(cosine) < base.COSINE_LIMIT  # beyond it acos has no gradient
        theta = tf.where(inside, tf.acos(tf.where(inside, cosine, 0.0)), tf.where(cosine > 0.0, 0.0, np.pi))
        angle = self.margin * theta
        k = tf.floor(angle / np.pi)
        return (1.0 - 2.0 * (k % 2.0)) * tf.cos(angle) - 2.0 * k


class CosFace(base.Head):
    """Target s (cos(theta_y + alpha) - m); alpha = 0 without a cloud.

    Example: cosines 0.6 and 0.8, the target's less the margin.

    >>> head = heads.CosFace(2, scale=10.0, margin=0.2)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[4., 8.]], dtype=float32)

    Reference: Wang et al., CosFace, CVPR 2018, Eq. 4; with a cloud Liu et al., CVPR 2020, Eq. 7.
    """

    def target_logit(self, target):
        return target.turned() - self.margin


class ArcFace(base.Head):
    """Target s cos(theta_y + alpha + m), m in radians; alpha = 0 without a cloud.

    Example: 60 degrees from its class become 120.

    >>> head = heads.ArcFace(2, scale=10.0, margin=np.pi / 3)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[1.0, 3.0**0.5]]), tf.constant([0])), training=True).numpy().round(2)
    array([[-5.  ,  8.66]], dtype=float32)

    Reference: Deng et al., ArcFace, CVPR 2019, Eq. 3; with a cloud Liu et al., CVPR 2020, Eq. 8.
    """

    START = base.Start(16.0, 0.2)  # LEAP's, in the same section as CosFace's

    def target_logit(self, target):
        return target.turned(self.margin)


class SubCentreArcFace(ArcFace):
    """ArcFace to the nearest of several centres: cos theta_j = max_k W_jk^T f.

    `sub_centres` is K, the paper's 3; W is [d, C K], the columns of a class side by side. K times the products.

    Example: cosines 0.6 and 0.8 to the centres of class 0, -0.6 and -0.8 to those of class 1.

    >>> head = heads.SubCentreArcFace(2, scale=10.0, options={"sub_centres": 2})
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.concatenate([np.eye(2), -np.eye(2)], axis=1)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0]))).numpy()
    array([[ 8., -6.]], dtype=float32)

    Reference: Deng et al., Sub-center ArcFace, ECCV 2020, section 3.2.
    """

    OPTIONS = {"sub_centres": base.Option(3, 1, 64, whole=True)}
    CLOUD_FORMS = ("drawn", "closed")  # a directional cloud needs one prototype a class

    @property
    def columns(self):
        return self.classes * int(self.options["sub_centres"])

    def _by_class(self, values):
        return tf.reshape(values, [-1, self.classes, int(self.options["sub_centres"])])

    def products(self, features):
        products, inverse = super().products(features)
        return tf.reduce_max(self._by_class(products * inverse), axis=2), tf.ones([self.classes])

    def prototype_lengths(self):
        return tf.reduce_mean(self._by_class(super().prototype_lengths()), axis=2)[0]


class LDAM(base.Head):
    """Target s (cos(theta_y + alpha) - m_y) with m_y = m (min_j K_j / K_y)^(1/4): the rarest class has the margin m.

    The paper has m = 0.5 and s = 30.

    Example: a class with 16 times the rarest's images has half its margin.

    >>> head = heads.LDAM(2, scale=10.0, margin=0.4, counts=[16, 1])
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[4., 8.]], dtype=float32)

    Reference: Cao et al., Label-Distribution-Aware Margin Loss, NeurIPS 2019, Eq. 13.
    """

    START = base.Start(24.0, 0.3)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.counts is None or self.counts.min() < 1:
            raise errors.UsageError(f"LDAM needs `counts` of at least 1 for every class. Received: {self.counts}")
        self.margins = self.margin * (self.counts.min() / self.counts) ** 0.25

    def build(self, input_shape):
        super().build(input_shape)
        with tf.init_scope():  # held beside the graph: C numbers within each traced one are not little
            self._margins = tf.constant(self.margins, tf.float32)

    def target_logit(self, target):
        return target.turned() - tf.gather(self._margins, target.label)


class Triplet(base.Head):
    """No classes: the unit embeddings [B, d] themselves, for `losses`' semi-hard triplets.

    The margin is on squared distances of unit embeddings; the paper has 0.2.

    Example:

    >>> head = heads.Triplet(2, margin=0.2)
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[0.6, 0.8]], dtype=float32)

    Reference: Schroff et al., FaceNet, CVPR 2015, section 3.2.
    """

    CLOUD_FORMS = ()
    TUNED = ("margin",)
    START = base.Start(1.0, 0.2)

    def build(self, input_shape):
        tf.keras.layers.Layer.build(self, input_shape)

    def class_weights(self):
        return {}

    def prototype_lengths(self):
        return None

    def call(self, inputs, training=False):
        features, _ = inputs
        return cosine_similarity.unit(features)

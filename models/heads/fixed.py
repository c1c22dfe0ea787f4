"""Heads whose margin is fixed before training: the classic ones, and LDAM's, fixed by the class's size."""

from typing import ClassVar

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.heads import base
from longtail.models.heads import cosine_similarity

shifted_cosine = base.shifted_cosine


class Softmax(base.Head):
    """Plain softmax classification: logits W^T f + b. Scale and margin have no meaning here."""

    takes_cloud = False
    TUNED: ClassVar[tuple[str, ...]] = ()
    START = base.Start(1.0, 0.0)

    def build(self, input_shape):
        super().build(input_shape)
        self.bias = self.add_weight("bias", shape=[self.classes], initializer="zeros")

    def call(self, inputs, training=False):
        features, _ = inputs
        return tf.matmul(tf.cast(features, tf.float32), self.prototypes) + self.bias


class L2Softmax(Softmax):
    """W^T (s f / |f|) + b: features on a sphere of radius s, free weights (Ranjan et al., arXiv 1703.09507, Eq. 4)."""

    TUNED = ("scale",)
    START = base.Start(24.0, 0.0)

    def call(self, inputs, training=False):
        features, labels = inputs
        return super().call((self.scale * cosine_similarity.unit(features), labels), training)


class NormFace(base.Head):
    """s cos(theta_j): unit features and unit weights, no margin (Wang et al., ACM MM 2017)."""

    TUNED = ("scale",)
    START = base.Start(24.0, 0.0)


class SphereFace(base.Head):
    """Target s psi(theta_y + alpha), psi(t) = (-1)^k cos(m t) - 2k for t in [k pi / m, (k + 1) pi / m].

    The multiplicative margin of Liu et al., CVPR 2017, Eq. 7, on unit features as in SphereFace Revived (Wen et al.,
    TPAMI 2022). psi falls all the way from 1 at t = 0, for any real m from 1 (no margin) to 4.
    """

    MARGINS = (1.0, 4.0)
    START = base.Start(24.0, 1.5)

    def target(self, own):
        cosine = shifted_cosine(own.cosine, own.alpha)
        inside = tf.abs(cosine) < base.COSINE_LIMIT  # beyond it acos has no gradient
        theta = tf.where(inside, tf.acos(tf.where(inside, cosine, 0.0)), tf.where(cosine > 0.0, 0.0, np.pi))
        angle = self.margin * theta
        k = tf.floor(angle / np.pi)
        return (1.0 - 2.0 * (k % 2.0)) * tf.cos(angle) - 2.0 * k


class CosFace(base.Head):
    """Target s (cos(theta_y + alpha) - m), Eq. 7 of LEAP; alpha = 0 gives CosFace (Wang et al., CVPR 2018)."""

    def target(self, own):
        return shifted_cosine(own.cosine, own.alpha) - self.margin


class ArcFace(base.Head):
    """Target s cos(theta_y + alpha + m), Eq. 8; alpha = 0 gives ArcFace (Deng et al., CVPR 2019). m in radians."""

    START = base.Start(16.0, 0.2)  # LEAP's, in the same section as CosFace's

    def target(self, own):
        return shifted_cosine(own.cosine, own.alpha + self.margin)


class SubCentreArcFace(ArcFace):
    """ArcFace to the nearest of several centres: cos theta_j = max_k W_jk^T f (Deng et al., ECCV 2020, section 3.2).

    `sub_centres` is K, the paper's 3; W is [d, C K], the columns of a class side by side. K times the products.
    """

    OPTIONS = {"sub_centres": base.Option(3, 1, 64, whole=True)}

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

    Label-distribution-aware margins, Cao et al., NeurIPS 2019, Eq. 13; the paper has m = 0.5 and s = 30.
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

    def target(self, own):
        return shifted_cosine(own.cosine, own.alpha) - tf.gather(self._margins, own.label)


class Triplet(base.Head):
    """No classes: the unit embeddings [B, d] themselves, for `losses`' semi-hard triplets (Schroff et al., CVPR 2015).

    The margin is on squared distances of unit embeddings; the paper has 0.2.
    """

    takes_cloud = False
    TUNED = ("margin",)
    START = base.Start(1.0, 0.2)

    def build(self, input_shape):
        tf.keras.layers.Layer.build(self, input_shape)

    def prototype_lengths(self):
        return None

    def call(self, inputs, training=False):
        features, _ = inputs
        return cosine_similarity.unit(features)

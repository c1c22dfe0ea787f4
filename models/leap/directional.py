"""The logits of a directional cloud: what noise of one covariance for all classes does to them on average."""

import tensorflow as tf

from longtail.models.leap import cloud_noise

_MATRIX, _ROW, _SCALAR = cloud_noise.MATRIX, cloud_noise.ROW, cloud_noise.SCALAR
_LABELS = tf.TensorSpec([None], tf.int32)


def expected_logits(
    unit: tf.Tensor,
    labels: tf.Tensor,
    prototypes: tf.Tensor,
    inverse: tf.Tensor,
    scale: float,
    strength: tf.Tensor,
    root: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """s w_j' u + s^2 lambda_y / 2 (w_j - w_y)' R R' (w_j - w_y), for unit prototypes w and a covariance R R'.

    The form is q_j - 2 w_j' R R' w_y + q_y with q_j = |R' w_j|^2. Its middle term is one with the cosines,
    w_j' (u - s lambda_y R R' w_y), and R' w_j are r more rows of the same matrix product: O((B + r) C d) in all, where
    the cosines alone are O(B C d).

    Args:
      unit: float32 [B, d], embeddings of length one.
      labels: int32 [B], y.
      prototypes: float32 [d, C], of any length.
      inverse: float32 [C], one over their lengths.
      scale: s.
      strength: float32 [B], lambda_y; no gradient.
      root: float32 [d, r], R; no gradient.

    Returns:
      float32 [B, C], and float32 [B], the cosine to the own prototype.

    Example: the cloud lies along the second axis, in which the two prototypes are 1 apart.

    >>> u, w, root = tf.constant([[1.0, 0.0]]), tf.eye(2), tf.constant([[0.0], [0.2]])
    >>> logits, cosine = directional.expected_logits(u, tf.constant([0]), w, tf.ones([2]), 10.0, tf.ones([1]), root)
    >>> logits.numpy(), cosine.numpy()
    (array([[10.,  2.]], dtype=float32), array([1.], dtype=float32))

    Reference: Wang et al., Implicit Semantic Data Augmentation, NeurIPS 2019, Proposition 1, for unit embeddings.
    """
    scale = tf.convert_to_tensor(scale, tf.float32)
    products, cosine = _products(unit, prototypes, inverse, labels, scale * strength, root)
    half = 0.5 * scale * scale * strength
    logits = cloud_noise.in_two_passes(
        products,
        inverse,
        lambda products, inverse: _forward(products, inverse, labels, scale, half),
        lambda upstream, products, inverse: _backward(upstream, products, inverse, labels, scale, half),
    )
    return logits, cosine


def _products(unit, prototypes, inverse, labels, pull, root):
    """[u - pull R R' w_y; R'] times prototypes [B + r, C], and w_y' u [B].

    One function with a gradient of its own. What would be a gradient [d, C] of the own prototypes alone lies in the
    span of the product's rows, and is added to that of the product: B + B r numbers, before it is multiplied out.
    """

    @tf.custom_gradient
    def multiplied(unit, prototypes, inverse):
        raw, own_inverse = tf.transpose(tf.gather(prototypes, labels, axis=1)), tf.gather(inverse, labels)
        own = raw * own_inverse[:, tf.newaxis]
        along = pull[:, tf.newaxis] * tf.matmul(own, root)
        rows = tf.concat([unit - tf.matmul(along, root, transpose_b=True), tf.transpose(root)], axis=0)
        cosine = tf.reduce_sum(unit * own, axis=1)

        def gradient(of_products, of_cosine):
            of_pulled = tf.matmul(of_products[: tf.size(labels)], prototypes, transpose_b=True)
            of_along = -pull[:, tf.newaxis] * tf.matmul(of_pulled, root)  # of R' w_y
            turned = of_cosine[:, tf.newaxis] * along + of_along  # u is what was multiplied, and along more
            of_own = tf.concat([of_cosine[tf.newaxis], tf.transpose(turned)], axis=0) * own_inverse
            of_products = tf.tensor_scatter_nd_add(of_products, _places(labels, root), of_own)
            of_inverse = of_cosine * tf.reduce_sum(unit * raw, axis=1)
            of_inverse += tf.reduce_sum(of_along * tf.matmul(raw, root), axis=1)
            return (
                of_pulled + of_cosine[:, tf.newaxis] * own,
                tf.matmul(rows, of_products, transpose_a=True),
                tf.math.unsorted_segment_sum(of_inverse, labels, tf.size(inverse)),
            )

        return (tf.matmul(rows, prototypes), cosine), gradient

    return multiplied(unit, tf.convert_to_tensor(prototypes), inverse)


def _places(labels, root):
    """Of the own prototypes in [B + r, C]: int32 [1 + r, B, 2], first in the rows of the batch, then in those of R'."""
    batch = tf.size(labels)
    of_root = tf.tile(batch + tf.range(root.shape[1])[:, tf.newaxis], [1, batch])
    rows = tf.concat([tf.range(batch)[tf.newaxis], of_root], axis=0)
    return tf.stack([rows, tf.broadcast_to(labels, tf.shape(rows))], axis=-1)


@tf.function(jit_compile=True, input_signature=[_MATRIX, _ROW, _LABELS, _SCALAR, _ROW])
@tf.autograph.experimental.do_not_convert
def _forward(products, inverse, labels, scale, half):
    batch = tf.size(labels)
    rise = tf.reduce_sum(tf.square(products[batch:] * inverse), axis=0)
    own = tf.gather(rise, labels)[:, tf.newaxis]
    return products[:batch] * (scale * inverse) + half[:, tf.newaxis] * (rise + own)


@tf.function(jit_compile=True, input_signature=[_MATRIX, _MATRIX, _ROW, _LABELS, _SCALAR, _ROW])
@tf.autograph.experimental.do_not_convert
def _backward(upstream, products, inverse, labels, scale, half):
    of_rise = tf.reduce_sum(half[:, tf.newaxis] * upstream, axis=0)
    of_rise = tf.tensor_scatter_nd_add(of_rise, labels[:, tf.newaxis], half * tf.reduce_sum(upstream, axis=1))
    slope = products[tf.size(labels) :] * (2.0 * of_rise * inverse * inverse)
    return tf.concat([upstream * (scale * inverse), slope], axis=0)

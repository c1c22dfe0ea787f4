"""The feature cloud without draws: what its noise does to a logit on average, to second order."""

import tensorflow as tf

from longtail.models.leap import cloud_noise

_MATRIX, _ROW, _SCALAR = cloud_noise.MATRIX, cloud_noise.ROW, cloud_noise.SCALAR


def expected_logits(products: tf.Tensor, inverse: tf.Tensor, scale: float, width: tf.Tensor) -> tf.Tensor:
    """s c exp(-v / 2) + s^2 v (1 - c^2) / 2 for cos theta = c = products * inverse and v = width^2.

    The logarithm of E[exp(s cos(theta + alpha))] for alpha ~ N(0, v). A cumulant expansion makes it
    s E[cos(theta + alpha)] + s^2 Var[cos(theta + alpha)] / 2 + ..., and, with E[cos alpha] = exp(-v / 2) and
    E[sin alpha] = 0,

      E[cos(theta + alpha)] = cos theta exp(-v / 2),
      Var[cos(theta + alpha)] = sin^2 theta v + O(v^2) = (1 - c^2) v + O(v^2).

    The mean of a drawn cloud's cross-entropy is E[log sum exp] less the target's mean logit. By Jensen's inequality
    E[log sum exp] is at most log sum E[exp], and these logits are what the other classes of a row have there. The
    target's own logit is its mean, the first term alone: `heads.Target.turned` makes it.

    Args:
      products: float32 [B, C], unit features times prototypes.
      inverse: float32 [C], one over the length of each prototype.
      scale: s.
      width: float32 [B], standard deviation of each row's cloud, radians; no gradient.

    Returns:
      float32 [B, C].

    Example: without width the cosines alone; at a right angle the variance alone, 10^2 * 0.04 / 2.

    >>> products, inverse = tf.constant([[0.6, 0.0], [0.6, 0.0]]), tf.ones([2])
    >>> closed_form.expected_logits(products, inverse, 10.0, width=tf.constant([0.0, 0.2])).numpy().round(2)
    array([[6.  , 0.  ],
           [7.16, 2.  ]], dtype=float32)

    A logit rises with its cosine c while exp(-v / 2) > s v c, so for every c only where s v is below about 1. With a
    wider cloud the form turns over: the nearest of the other classes are drawn nearer. `loop.train` warns of a
    constant width that does so.

    Reference: the form of implicit semantic augmentation (Wang et al., NeurIPS 2019, Proposition 1) for LEAP's angles.
    """
    scale = tf.convert_to_tensor(scale, tf.float32)
    variance = tf.square(width)
    return cloud_noise.in_two_passes(
        products,
        inverse,
        lambda products, inverse: _forward(products, inverse, scale, variance),
        lambda upstream, products, inverse: _backward(upstream, products, inverse, scale, variance),
    )


@tf.function(jit_compile=True, input_signature=[_MATRIX, _ROW, _SCALAR, _ROW])
@tf.autograph.experimental.do_not_convert
def _forward(products, inverse, scale, variance):
    cosine = tf.clip_by_value(products * inverse, -1.0, 1.0)
    half = 0.5 * variance[:, tf.newaxis]
    return scale * (cosine * tf.exp(-half) + scale * half * (1.0 - cosine * cosine))


@tf.function(jit_compile=True, input_signature=[_MATRIX, _MATRIX, _ROW, _SCALAR, _ROW])
@tf.autograph.experimental.do_not_convert
def _backward(upstream, products, inverse, scale, variance):
    cosine = tf.clip_by_value(products * inverse, -1.0, 1.0)
    variance = variance[:, tf.newaxis]
    return upstream * (tf.exp(-0.5 * variance) - scale * variance * cosine) * (scale * inverse)

"""The noise of the feature cloud, made where it is used: one fused pass turns a matrix of cosines by its own draws."""

from collections.abc import Callable

import tensorflow as tf

# Below this distance from 1 a cosine has no usable angle in float32; also the fence that keeps gradients finite.
COSINE_LIMIT = 1.0 - 1e-6

_PI = 3.141592653589793

# The normal quantile of the sum of four uniforms, mapped to [-1, 1]: x * polynomial(x^2), highest power first. Least
# squares under the sum's own density: off the normal distribution by 3e-5 at most, variance 1 - 5e-7, largest 5.59.
_QUANTILE = (
    23.463038295586724,
    -56.0071019658916,
    52.62643915190009,
    -22.736496612716056,
    4.8355289027169155,
    0.07934161215986735,
    3.339990560665778,
)
# sin x = x + x^3 P(x^2) and cos x = 1 + x^2 Q(x^2) on [-pi, pi], to 2e-7: XLA calls libm for its own, entry by entry.
_SINE = (-2.0549865e-08, 2.7051368e-06, -1.9814450e-04, 8.3326852e-03, -1.6666612e-01)
_COSINE = (1.7290613e-09, -2.7093485e-07, 2.4771644e-05, -1.3887906e-03, 4.1666518e-02, -4.9999992e-01)


def row_keys(rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Three random words for each of `rows` rows: uint32 [rows, 3], a function of `seed` (int64 [2]) by Philox.

    Example:

    >>> keys = cloud_noise.row_keys(2, tf.constant([0, 7], tf.int64))  # seed 0, step 7
    >>> keys.shape, bool(tf.reduce_all(keys == cloud_noise.row_keys(2, tf.constant([0, 7], tf.int64))))
    (TensorShape([2, 3]), True)
    """
    words = tf.random.stateless_uniform(tf.stack([rows, 3]), seed, None, None, tf.int32)
    return tf.bitcast(words, tf.uint32)


def draw(keys: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Standard normal draws, each a function of its row's key and its column alone.

    A counter hash: column j of a row with the key (a, b, c) hashes j * a + b (a made odd) into one 32-bit word and that
    word with c into another; the sum of their four halves is turned into a normal by a polynomial. Rows and steps
    differ by Philox words. What dependence is left: two draws of one run share their first word with probability
    2^-32 for each pair of draws, at unrelated places (every row steps through the words with a stride of its own).

    Args:
      keys: uint32 [..., 3], of `row_keys`.
      columns: uint32, broadcastable to [...]: the numbers of the classes.

    Returns:
      float32 of the broadcast shape, in [-5.6, 5.6].

    Example: mean 0 and standard deviation 1, here of 250,000 draws.

    >>> keys = cloud_noise.row_keys(500, tf.constant([0, 0], tf.int64))
    >>> noise = cloud_noise.draw(keys[:, tf.newaxis], tf.bitcast(tf.range(500), tf.uint32))
    >>> noise.shape, round(abs(float(tf.reduce_mean(noise))), 1), round(float(tf.math.reduce_std(noise)), 1)
    (TensorShape([500, 500]), 0.0, 1.0)
    """
    stride, start, whitening = (keys[..., i] for i in range(3))
    first = _mix(columns * tf.bitwise.bitwise_or(stride, _word(1)) + start)
    second = _mix(tf.bitwise.bitwise_xor(first, whitening))
    low = tf.bitwise.bitwise_and(first, _word(0xFFFF)) + tf.bitwise.bitwise_and(second, _word(0xFFFF))
    total = low + _right(first, 16) + _right(second, 16)  # 0 to 4 * 65535
    centred = tf.cast(tf.bitcast(total, tf.int32) - 2 * 65535, tf.float32) * (1.0 / (2 * 65536))
    return centred * _polynomial(_QUANTILE, centred * centred)


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)


def _right(word: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(word, _word(places))


def _mix(word: tf.Tensor) -> tf.Tensor:
    """A bijection of 32 bits whose every input bit flips each output bit half the time: two multiplications."""
    word = tf.bitwise.bitwise_xor(word, _right(word, 16)) * _word(0x21F0AAAD)
    word = tf.bitwise.bitwise_xor(word, _right(word, 15)) * _word(0xD35A2D97)
    return tf.bitwise.bitwise_xor(word, _right(word, 15))


def _polynomial(coefficients, x):
    value = tf.constant(coefficients[0], tf.float32)
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def shifted_cosine(cosine: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """cos(clip(theta + angle, 0, pi)) for theta = acos(cosine), without an acos.

    By the addition theorem, cos theta cos a - sin theta sin a; theta + a < 0 exactly where a < 0 and cos theta >
    cos a, and theta + a > pi exactly where a > 0 and cos theta < -cos a. Clipped entries have no gradient.

    Args:
      cosine: float32, any shape, in [-1, 1]; clipped to +-(1 - 1e-6).
      angle: float32, broadcastable, radians; clipped to [-pi, pi].

    Returns:
      float32 of the broadcast shape, in [-1, 1].

    Example: 60 degrees and 60 more; 60 degrees and 90 less, clipped at 0.

    >>> cloud_noise.shifted_cosine(tf.constant([0.5, 0.5]), tf.constant([np.pi / 3, -np.pi / 2])).numpy().round(3)
    array([-0.5,  1. ], dtype=float32)

    Reference: Liu et al., CVPR 2020, the cosine of Eq. 7 and 8.
    """
    cosine = tf.clip_by_value(cosine, -COSINE_LIMIT, COSINE_LIMIT)
    angle = tf.clip_by_value(angle, -_PI, _PI)
    cos_angle = tf.cos(angle)
    shifted = cosine * cos_angle - tf.sqrt(1.0 - cosine * cosine) * tf.sin(angle)
    below, above = _outside(cosine, angle, cos_angle)
    return tf.where(above, -1.0, tf.where(below, 1.0, shifted))


def _outside(cosine, angle, cos_angle):
    """Where theta + angle is below 0, and where it is above pi."""
    below = tf.logical_and(angle < 0.0, cosine > cos_angle)
    return below, tf.logical_and(angle > 0.0, cosine < -cos_angle)


def _turn(cosine, width, keys):
    """What both passes share: the clipped cosine, sine, cosine and sine of the draw, and where it leaves [0, pi]."""
    columns = tf.range(tf.shape(cosine)[1])
    noise = draw(keys[:, tf.newaxis, :], tf.bitcast(columns, tf.uint32))
    angle = tf.clip_by_value(noise * width[:, tf.newaxis], -_PI, _PI)
    square = angle * angle
    sin_angle = angle + angle * square * _polynomial(_SINE, square)
    cos_angle = 1.0 + square * _polynomial(_COSINE, square)
    cosine = tf.clip_by_value(cosine, -COSINE_LIMIT, COSINE_LIMIT)
    below, above = _outside(cosine, angle, cos_angle)
    return cosine, tf.sqrt(1.0 - cosine * cosine), cos_angle, sin_angle, below, above


# One XLA kernel for each pass, also in a step that is not compiled: as TensorFlow operations, each would read and
# write all of [B, C]. Compiled once for each shape that comes.
MATRIX = tf.TensorSpec([None, None], tf.float32)
ROW = tf.TensorSpec([None], tf.float32)
SCALAR = tf.TensorSpec([], tf.float32)
_KEYS = tf.TensorSpec([None, 3], tf.uint32)


@tf.function(jit_compile=True, input_signature=[MATRIX, ROW, SCALAR, ROW, _KEYS])
@tf.autograph.experimental.do_not_convert
def _forward(products, inverse, scale, width, keys):
    cosine, sine, cos_angle, sin_angle, below, above = _turn(products * inverse, width, keys)
    shifted = tf.clip_by_value(cosine * cos_angle - sine * sin_angle, -1.0, 1.0)
    return scale * tf.where(above, -1.0, tf.where(below, 1.0, shifted))


@tf.function(jit_compile=True, input_signature=[MATRIX, MATRIX, ROW, SCALAR, ROW, _KEYS])
@tf.autograph.experimental.do_not_convert
def _backward(upstream, products, inverse, scale, width, keys):
    given = products * inverse
    cosine, sine, cos_angle, sin_angle, below, above = _turn(given, width, keys)
    slope = cos_angle + cosine / sine * sin_angle
    fenced = tf.logical_or(tf.abs(given) > COSINE_LIMIT, tf.logical_or(below, above))
    return tf.where(fenced, 0.0, upstream * slope * (scale * inverse))


def clouded_cosines(
    products: tf.Tensor, inverse: tf.Tensor, scale: float, width: tf.Tensor, keys: tf.Tensor
) -> tf.Tensor:
    """scale * cos(clip(theta + alpha, 0, pi)) for cos theta = products * inverse and alpha = width * draw.

    What `shifted_cosine` is, to 1e-6, in one pass forward and one back. The draws are made again for the gradient:
    they are cheaper than the memory they would lie in.

    Args:
      products: float32 [B, C], unit features times prototypes.
      inverse: float32 [C], one over the length of each prototype.
      scale: what the cosines are multiplied by.
      width: float32 [B], standard deviation of each row's cloud, radians; no gradient.
      keys: uint32 [B, 3], of `row_keys`.

    Returns:
      float32 [B, C].

    Example: a cloud without width turns nothing.

    >>> keys = cloud_noise.row_keys(1, tf.constant([0, 0], tf.int64))
    >>> cosines, inverse = tf.constant([[0.6, 0.8]]), tf.ones([2])
    >>> cloud_noise.clouded_cosines(cosines, inverse, 10.0, width=tf.zeros([1]), keys=keys).numpy()
    array([[6., 8.]], dtype=float32)
    """
    scale = tf.convert_to_tensor(scale, tf.float32)
    return in_two_passes(
        products,
        inverse,
        lambda products, inverse: _forward(products, inverse, scale, width, keys),
        lambda upstream, products, inverse: _backward(upstream, products, inverse, scale, width, keys),
    )


def in_two_passes(
    products: tf.Tensor,
    inverse: tf.Tensor,
    forward: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    backward: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """A function of each cosine, products * inverse, whose value and whose gradient are a kernel each.

    Args:
      products: float32 [B, C], unit features times prototypes.
      inverse: float32 [C], one over the length of each prototype.
      forward: of products and inverse, the value, float32 [B, C].
      backward: of upstream, products and inverse, the gradient for products, float32 [B, C].

    Returns:
      What `forward` does.

    Example: the gradient for the inverse lengths follows from that for the products.

    >>> products, inverse = tf.constant([[2.0, 3.0]]), tf.constant([0.5, 0.1])
    >>> with tf.GradientTape() as tape:
    ...     tape.watch(inverse)
    ...     passes = lambda p, i: p * i, lambda upstream, p, i: upstream * i
    ...     value = cloud_noise.in_two_passes(products, inverse, *passes)
    >>> tape.gradient(value, inverse).numpy()
    array([2., 3.], dtype=float32)
    """

    @tf.custom_gradient
    def passes(products, inverse):
        def gradient(upstream):
            inner = backward(upstream, products, inverse)
            # By the chain rule inverse * of_inverse = products * inner, summed over the rows.
            return inner, tf.math.divide_no_nan(tf.reduce_sum(inner * products, axis=0), inverse)

        return forward(products, inverse), gradient

    return passes(products, inverse)

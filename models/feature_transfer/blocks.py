"""The 3x3 convolutions that encoder, filter and decoder of feature transfer are made of, and where they halve."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from longtail.models import config as config_lib

layers = tf.keras.layers

# Length of the rich features g and of the filtered features f in the paper.
RICH = 320
# Channels level by level; the first convolution of each level but the first halves the image.
ENCODER = ((32, 64), (64, 64, 128), (128, 96, 192), (192, 128, 256), (256, 160, RICH))
# Of batch normalisation: rich features are averages of what began small, of no more variance than Keras' own 1e-3.
_EPSILON = 1e-5
_PAPER_IMAGE = (100, 100)
_PAPER_SIDES = (100, 50, 25, 12, 6)


class UniformOfEntries(tf.keras.initializers.Initializer):
    """Uniform between -sqrt(3 / n) and sqrt(3 / n), n the number of all entries of the weight.

    Example: twelve entries are between -1/2 and 1/2.

    >>> float(tf.reduce_max(tf.abs(blocks.UniformOfEntries()([3, 4])))) <= 0.5
    True

    Reference: Yin et al., Feature Transfer Learning for Face Recognition With Under-Represented Data, CVPR 2019.
    """

    def __call__(self, shape, dtype=None, **kwargs):
        most = (3.0 / tf.TensorShape(shape).num_elements()) ** 0.5
        return tf.keras.initializers.RandomUniform(-most, most)(shape, dtype)


class Kernel(NamedTuple):
    """How the weights of a layer begin and are held down.

    Attributes:
      decay: L2 factor.
      initializer: what n counts in the paper's initialiser, uniform between -sqrt(3 / n) and sqrt(3 / n): the `inputs`
        of one output, or all `entries` of the weight.

    Example:

    >>> blocks.Kernel(decay=0.1, initializer="entries").options["kernel_regularizer"].l2.round(1)
    0.1
    """

    decay: float = 0.0
    initializer: str = config_lib.Model.initializer

    @property
    def options(self) -> dict[str, Any]:
        """Keras' arguments for it."""
        begin = UniformOfEntries()
        if self.initializer == "inputs":
            begin = tf.keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        regularizer = tf.keras.regularizers.L2(self.decay) if self.decay else None
        return {"kernel_initializer": begin, "kernel_regularizer": regularizer}


PLAIN = Kernel()


def scaled(channels: int, width: float) -> int:
    """A number of channels at a share of the paper's.

    Example:

    >>> blocks.scaled(320, width=0.25), blocks.scaled(32, width=0.05)
    (80, 2)
    """
    return max(round(channels * width), 1)


def halved(image: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width at each level: halved, rounding up; at 100x100 the paper's, which once rounds down.

    Example:

    >>> blocks.halved([28, 28])
    [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2)]
    """
    if tuple(image) == _PAPER_IMAGE:
        return [(side, side) for side in _PAPER_SIDES]
    height, width = image
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(len(ENCODER))]


def _finished(x: tf.Tensor) -> tf.Tensor:
    return layers.ReLU()(layers.BatchNormalization(epsilon=_EPSILON)(x))


def conv(
    x: tf.Tensor, filters: int, kernel: Kernel = PLAIN, linear: bool = False, normalised: bool = False
) -> tf.Tensor:
    """A convolution at one size, then batch normalisation and ReLU; `linear`: no ReLU.

    What is linear has a bias in place of batch normalisation, where it is not `normalised`.

    Example:

    >>> blocks.conv(tf.zeros([1, 7, 7, 2]), filters=3).shape
    TensorShape([1, 7, 7, 3])
    """
    has_bias = linear and not normalised
    x = layers.Conv2D(filters, 3, padding="same", use_bias=has_bias, **kernel.options)(x)
    if linear:
        return layers.BatchNormalization(epsilon=_EPSILON)(x) if normalised else x
    return _finished(x)


def halve(x: tf.Tensor, filters: int, to: tuple[int, int], kernel: Kernel = PLAIN) -> tf.Tensor:
    """A convolution of every second pixel, padded by one on all sides; unpadded where that is what leads to `to`.

    Example:

    >>> blocks.halve(tf.zeros([1, 25, 25, 2]), filters=3, to=(13, 13)).shape
    TensorShape([1, 13, 13, 3])
    >>> blocks.halve(tf.zeros([1, 25, 25, 2]), filters=3, to=(12, 12)).shape
    TensorShape([1, 12, 12, 3])
    """
    if -(-x.shape[1] // 2) == to[0]:
        x = layers.ZeroPadding2D(1)(x)
    return _finished(layers.Conv2D(filters, 3, 2, use_bias=False, **kernel.options)(x))


def double(x: tf.Tensor, filters: int, to: tuple[int, int], kernel: Kernel = PLAIN) -> tf.Tensor:
    """A transposed convolution to twice the size, cut to `to` where that is less.

    Example:

    >>> blocks.double(tf.zeros([1, 4, 4, 2]), filters=3, to=(7, 8)).shape
    TensorShape([1, 7, 8, 3])
    """
    x = layers.Conv2DTranspose(filters, 3, 2, padding="same", use_bias=False, **kernel.options)(x)
    below, right = max(x.shape[1] - to[0], 0), max(x.shape[2] - to[1], 0)
    if below or right:
        x = layers.Cropping2D(((0, below), (0, right)))(x)
    return _finished(x)


def grow(x: tf.Tensor, filters: int, to: tuple[int, int], kernel: Kernel = PLAIN) -> tf.Tensor:
    """A transposed convolution, unpadded where `to` is what two more pixels a side lead to.

    Example:

    >>> blocks.grow(tf.zeros([1, 48, 48, 2]), filters=3, to=(50, 50)).shape
    TensorShape([1, 50, 50, 3])
    """
    padding = "valid" if (x.shape[1] + 2, x.shape[2] + 2) == to else "same"
    return _finished(layers.Conv2DTranspose(filters, 3, padding=padding, use_bias=False, **kernel.options)(x))


def spread(x: tf.Tensor, sides: tuple[int, int], channels: int, kernel: Kernel = PLAIN) -> tf.Tensor:
    """Features [N, n] fully connected to an image of `sides` and so many channels.

    Example:

    >>> blocks.spread(tf.zeros([5, 8]), sides=(6, 6), channels=3).shape
    TensorShape([5, 6, 6, 3])
    """
    height, width = sides
    x = layers.Dense(height * width * channels, **kernel.options)(x)
    return layers.Reshape((height, width, channels))(x)

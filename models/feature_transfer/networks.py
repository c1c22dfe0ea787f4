"""Encoder, filter and decoder: image x -> rich features g -> embedding f, and g -> x' (Yin et al., CVPR 2019)."""

import tensorflow as tf

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models.feature_transfer import blocks

layers = tf.keras.layers

# Channels of the decoder, level by level; the first convolution of each level but the first doubles the image.
_DECODER = ((160, 256), (256, 128, 192), (192, 96, 128), (128, 64, 64), (64, 32))
_FILTER = (160, 256, 160)


class FilteredEmbedder(tf.keras.Model):
    """The filter over the encoder, image [N, h, w, c] -> embedding f [N, d], with both at hand.

    Attributes:
      encoder: image -> rich features g [N, n].
      filter: g -> f.

    Example: of a mean and a doubling.

    >>> image, rich = tf.keras.Input([2, 2, 1]), tf.keras.Input([1])
    >>> encoder = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(image))
    >>> embedder = networks.FilteredEmbedder(encoder, tf.keras.Model(rich, 2.0 * rich))
    >>> embedder(tf.reshape([1.0, 2.0, 3.0, 6.0], [1, 2, 2, 1])).numpy()
    array([[6.]], dtype=float32)
    """

    def __init__(self, encoder: tf.keras.Model, filter_network: tf.keras.Model):
        image = layers.Input(encoder.input_shape[1:])
        super().__init__(image, filter_network(encoder(image)))
        self.encoder = encoder
        self.filter = filter_network


def build_encoder(model: config_lib.Model) -> tf.keras.Model:
    """Image [N, h, w, c] in [-1, 1] -> rich features g, float32 [N, 320 * width].

    That is casianet's average; on top of another backbone a dense layer without an activation makes as many.

    Example: the paper's encoder has 2.87 million parameters.

    >>> networks.build_encoder(config.Model("casianet", image=(100, 100, 3), filter=True)).count_params()
    2865184
    """
    image = layers.Input(tuple(model.image))
    x = backbones.build_features(model.backbone, image, model.weight_decay, model.width, model.initializer)
    if model.backbone != "casianet":
        x = layers.Dense(blocks.scaled(blocks.RICH, model.width), dtype="float32")(x)
    encoder = tf.keras.Model(image, x, name="encoder")
    if model.weights:
        backbones.load_weights(encoder, model.backbone, model.weights)
    return encoder


def build_filter(model: config_lib.Model) -> tf.keras.Model:
    """Rich features g [N, 320 * width] -> embedding f, float32 [N, d], not normalised: the filter R.

    Its last convolution has no ReLU: f would have no negative entries. It has batch normalisation, as the paper's table
    has everywhere but at Cv53; without it f learns more slowly.

    Example: the paper's filter has 5.36 million parameters.

    >>> networks.build_filter(config.Model("casianet", image=(100, 100, 3), dimension=320, filter=True)).count_params()
    5360384
    """
    rich = blocks.scaled(blocks.RICH, model.width)
    features = layers.Input([rich])
    kernel = blocks.Kernel(model.weight_decay, model.initializer)
    x = blocks.spread(features, blocks.halved(model.image[:2])[-1], rich, kernel)
    for channels in _FILTER:
        x = blocks.conv(x, blocks.scaled(channels, model.width), kernel)
    x = blocks.conv(x, model.dimension, kernel, linear=True, normalised=True)
    return tf.keras.Model(features, layers.GlobalAveragePooling2D(dtype="float32")(x), name="filter")


def build_decoder(model: config_lib.Model) -> tf.keras.Model:
    """Rich features g [N, 320 * width] -> image x', float32 [N, h, w, c].

    Its last convolution is linear: after the ReLU that the paper's table has behind it, nothing could be drawn below 0
    of the [-1, 1] that an image has.

    Example: the paper's decoder has 6.56 million parameters.

    >>> networks.build_decoder(config.Model("casianet", image=(100, 100, 3), filter=True)).count_params()
    6562787
    """
    rich = blocks.scaled(blocks.RICH, model.width)
    features = layers.Input([rich])
    sides, kernel = blocks.halved(model.image[:2]), blocks.Kernel(model.weight_decay, model.initializer)
    x = blocks.spread(features, sides[-1], rich, kernel)
    for level, filters in enumerate(_DECODER):
        to = sides[-1 - level]
        first, *others = (blocks.scaled(channels, model.width) for channels in filters)
        x = blocks.double(x, first, to, kernel) if level else blocks.conv(x, first, kernel)
        for place, channels in enumerate(others):
            last_of_level = place + 1 == len(others) and level + 2 == len(_DECODER)
            x = blocks.grow(x, channels, to, kernel) if last_of_level else blocks.conv(x, channels, kernel)
    x = blocks.conv(x, model.image[2], kernel, linear=True)
    return tf.keras.Model(features, layers.Activation("linear", dtype="float32")(x), name="decoder")


def build_embedder(model: config_lib.Model) -> tf.keras.Model:
    """The embedder that the settings ask for: a backbone with its embedding, or the filter over an encoder.

    Example:

    >>> asked = config.Model("casianet", image=(28, 28, 1), dimension=64, filter=True, width=0.25)
    >>> embedder = networks.build_embedder(asked)
    >>> embedder.encoder.output_shape, embedder.output_shape
    ((None, 80), (None, 64))
    """
    if model.filter:
        return FilteredEmbedder(build_encoder(model), build_filter(model))
    image = tuple(model.image)
    weights = model.weights or None
    return backbones.build_embedder(
        model.backbone, image, model.dimension, model.weight_decay, weights, model.width, model.initializer
    )

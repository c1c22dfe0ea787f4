"""Backbones: an image in, the embedding f after its last batch normalisation out."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.feature_transfer import blocks

layers = tf.keras.layers

# What Keras' published ResNet-50 weights were trained on: BGR, the ImageNet mean taken off.
_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)


def _conv(filters: int, size: int, strides: int = 1, decay: float = 0.0) -> tf.keras.layers.Layer:
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=tf.keras.regularizers.L2(decay) if decay else None,
    )


def _conv4(image: tf.Tensor, decay: float) -> tf.Tensor:
    """Four 3x3 convolutions (32, 64, 64, 128), each halving the image; for images of 20 to 40 pixels."""
    x = image
    for filters in (32, 64, 64, 128):
        x = _conv(filters, 3, decay=decay)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPool2D(2, padding="same")(x)
    return layers.Flatten()(x)


def _basic_block(x: tf.Tensor, filters: int, strides: int, decay: float) -> tf.Tensor:
    y = layers.BatchNormalization()(_conv(filters, 3, strides, decay)(x))
    y = layers.BatchNormalization()(_conv(filters, 3, 1, decay)(layers.ReLU()(y)))
    if strides != 1 or x.shape[-1] != filters:
        x = layers.BatchNormalization()(_conv(filters, 1, strides, decay)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def _resnet18(image: tf.Tensor, decay: float) -> tf.Tensor:
    """ResNet-18 (He et al., CVPR 2016) with the 3x3 stem that faces of 112x112 are trained with."""
    x = layers.ReLU()(layers.BatchNormalization()(_conv(64, 3, 1, decay)(image)))
    for filters in (64, 128, 256, 512):
        x = _basic_block(x, filters, 2, decay)
        x = _basic_block(x, filters, 1, decay)
    return layers.Flatten()(layers.BatchNormalization()(x))


def _resnet50(image: tf.Tensor, decay: float) -> tf.Tensor:
    """Keras' ResNet-50, average pooled, fed as its published weights expect."""
    bgr = layers.Lambda(_to_imagenet_bgr, name="imagenet_bgr")(image)
    body = tf.keras.applications.ResNet50(
        include_top=False, weights=None, input_shape=image.shape[1:], pooling="avg"
    )
    return tf.keras.models.clone_model(body, clone_function=lambda layer: _decayed(layer, decay))(bgr)


def _casianet(image: tf.Tensor, decay: float, width: float, initializer: str) -> tf.Tensor:
    """Fourteen 3x3 convolutions and an average, the encoder of feature transfer, after Yi et al., arXiv 1411.7923."""
    sides, kernel, x = blocks.halved(image.shape[1:3]), blocks.Kernel(decay, initializer), image
    for level, filters in enumerate(blocks.ENCODER):
        for place, channels in enumerate(filters):
            if place == 0 and level > 0:
                x = blocks.halve(x, blocks.scaled(channels, width), sides[level], kernel)
            else:
                x = blocks.conv(x, blocks.scaled(channels, width), kernel, linear=channels == blocks.RICH)
    return layers.GlobalAveragePooling2D(dtype="float32")(x)


def _decayed(layer: tf.keras.layers.Layer, decay: float) -> tf.keras.layers.Layer:
    config = layer.get_config()
    if decay and isinstance(layer, layers.Conv2D):
        config["kernel_regularizer"] = tf.keras.regularizers.L2(decay)
    return type(layer).from_config(config)


def _to_imagenet_bgr(image: tf.Tensor) -> tf.Tensor:
    mean = tf.constant(_IMAGENET_BGR_MEAN, image.dtype)
    return (image[..., ::-1] + 1.0) * 127.5 - mean


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network, and what it needs.

    Attributes:
      build: image [N, h, w, c] and the L2 factor on convolutions -> features [N, n]; with `takes_width` also
        that share and an initialiser of `blocks.Kernel`.
      least_side: pixels of the smallest image.
      channels: how many an image may have.
      takes_weights: whether weights of its own can be loaded into it.
      takes_width: whether its channels can be a share of what they are.
      pooled: whether its features are an embedding as they are, where they are as long as one.

    Example: what ResNet-50 needs, and conv4 does not.

    >>> backbones.BACKBONES["resnet50"].channels, backbones.BACKBONES["conv4"].channels
    ((3,), (1, 3))
    """

    build: Callable[..., tf.Tensor]
    least_side: int = 8
    channels: tuple[int, ...] = (1, 3)
    takes_weights: bool = False
    takes_width: bool = False
    pooled: bool = False


BACKBONES = {
    "conv4": Backbone(_conv4),
    "resnet18": Backbone(_resnet18),
    "resnet50": Backbone(_resnet50, least_side=32, channels=(3,), takes_weights=True, pooled=True),
    "casianet": Backbone(_casianet, takes_width=True, pooled=True),
}


def build_features(
    backbone: str,
    image: tf.Tensor,
    weight_decay: float = 0.0,
    width: float = config_lib.Model.width,
    initializer: str = config_lib.Model.initializer,
) -> tf.Tensor:
    """A backbone's features [N, n] of a symbolic image [N, h, w, c]; `width` and `initializer` are casianet's.

    Example:

    >>> backbones.build_features("casianet", tf.keras.Input([32, 32, 1]), width=0.25).shape
    TensorShape([None, 80])
    """
    network = BACKBONES[backbone]
    return network.build(image, weight_decay, *((width, initializer) if network.takes_width else ()))


def build_embedder(
    backbone: str,
    image_shape: tuple[int, ...],
    dimension: int,
    weight_decay: float = 0.0,
    weights: str | None = None,
    width: float = config_lib.Model.width,
    initializer: str = config_lib.Model.initializer,
) -> tf.keras.Model:
    """Builds a backbone with its embedding on top.

    The embedding is a bias-free dense layer to `dimension` and a batch normalisation. Where the backbone's own width
    is `dimension` (ResNet-50 at 2048-d, as in the re-ID recipes) only the batch normalisation is added.

    Args:
      backbone: a key of `BACKBONES`.
      image_shape: (height, width, channels), pixels.
      dimension: d of the embedding.
      weight_decay: L2 factor on the convolutions and the dense layer.
      weights: path of a Keras weights file for the backbone alone (ResNet-50). Nothing is ever downloaded.
      width: share of casianet's channels.
      initializer: of casianet's convolutions, see `blocks.Kernel`.

    Returns:
      A Keras model, [N, h, w, c] in [-1, 1] -> [N, dimension], not normalised; its output is float32 under mixed
      precision.

    Raises:
      errors.UsageError: weights of other shapes.

    Example:

    >>> embedder = backbones.build_embedder("conv4", image_shape=(32, 32, 1), dimension=64)
    >>> embedder(tf.zeros([5, 32, 32, 1])).shape
    TensorShape([5, 64])
    """
    image = layers.Input(image_shape)
    x = build_features(backbone, image, weight_decay, width, initializer)
    if not BACKBONES[backbone].pooled or x.shape[-1] != dimension:
        regularizer = tf.keras.regularizers.L2(weight_decay) if weight_decay else None
        x = layers.Dense(dimension, use_bias=False, kernel_regularizer=regularizer)(x)
    embedding = layers.BatchNormalization(dtype="float32", name="embedding")(x)
    model = tf.keras.Model(image, embedding, name=backbone)
    if weights:
        load_weights(model, backbone, weights)
    return model


def load_weights(model: tf.keras.Model, backbone: str, weights: str) -> None:
    """Loads a file of weights into the backbone within a model, which is a model itself.

    Raises:
      errors.UsageError: no such file, or weights of other shapes.

    Example:

    >>> body = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[1])])
    >>> try:
    ...     backbones.load_weights(tf.keras.Sequential([body]), "resnet50", "none.h5")
    ... except errors.UsageError as error:
    ...     print(str(error).partition(":")[0])
    model.weights
    """
    (body,) = (layer for layer in model.layers if isinstance(layer, tf.keras.Model))
    try:
        body.load_weights(weights)
    except (ValueError, OSError) as error:
        raise errors.UsageError(f"model.weights: {weights} does not fit {backbone}: {error}") from error

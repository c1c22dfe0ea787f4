"""What Transform does to an example; training and serving run the graph that is made of it."""

from typing import Any

import tensorflow as tf

from longtail.components.data import features
from longtail.models.export import preprocess

PIXELS = "pixels"
STATUS = "status"


def preprocessing_fn(inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]) -> dict[str, tf.Tensor]:
    """Decodes, resizes and normalises the image of each example.

    Args:
      inputs: raw features; `image/encoded` is string [N, 1].
      custom_config: `image` is [height, width, channels], `max_pixels` the largest image decoded.

    Returns:
      `pixels`, float32 [N, height, width, channels] in [-1, 1], and `status`, int64 [N, 1].
    """
    encoded = tf.reshape(inputs[features.ENCODED], [-1])
    height, width, channels = custom_config["image"]
    pixels, status = preprocess.decode_batch(encoded, height, width, channels, custom_config["max_pixels"])
    return {PIXELS: pixels, STATUS: tf.cast(status, tf.int64)[:, tf.newaxis]}

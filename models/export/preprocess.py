"""From encoded bytes to what a backbone sees: one graph, used by Transform, by training outside TFX and by serving."""

import tensorflow as tf

from longtail.models import config
from longtail.models import pictures
from longtail.models.export import header
from longtail.models.export import signatures

_KINDS = ("JPEG", "PNG")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def normalise(pixels: tf.Tensor) -> tf.Tensor:
    """Maps intensities 0..255 (any dtype) to float32 in [-1, 1]."""
    return tf.cast(pixels, tf.float32) / 127.5 - 1.0


def _stated_pixels(encoded: tf.Tensor, is_jpeg: tf.Tensor) -> tf.Tensor:
    """Height x width as the header states them, before anything is decoded. Fails where there is no such header."""

    def of_jpeg():
        return tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.int64)

    def of_png():
        signature = tf.strings.substr(encoded, 0, 8)
        with tf.control_dependencies([tf.debugging.assert_equal(signature, _PNG_SIGNATURE)]):
            digits = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.uint8)
        digits = tf.reshape(tf.cast(digits, tf.int64), [2, 4])
        return tf.reduce_sum(digits * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)

    return tf.reduce_prod(tf.cond(is_jpeg, of_jpeg, of_png))


def decode_one(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes one JPEG or PNG to uint8 [h, w, channels], upright and on white; an op error where it cannot."""

    def of_jpeg():
        if channels != 1:
            return tf.io.decode_jpeg(encoded, channels=channels)
        # The decoder makes colours of four inks, but not grey.
        return tf.cond(
            tf.image.extract_jpeg_shape(encoded)[2] == 4,
            lambda: tf.image.rgb_to_grayscale(tf.io.decode_jpeg(encoded, channels=3)),
            lambda: tf.io.decode_jpeg(encoded, channels=1),
        )

    def upright():
        return header.turn(of_jpeg(), header.orientation(encoded))

    def on_white():
        colour = tf.io.decode_png(encoded, channels=channels)
        return tf.cond(header.may_be_transparent(encoded), lambda: _on_white(colour, encoded), lambda: colour)

    pixels = tf.cond(tf.io.is_jpeg(encoded), upright, on_white)
    return tf.ensure_shape(pixels, [None, None, channels])


def _on_white(colour: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """A PNG's pixels, uint8 [h, w, c], as they look on white paper."""
    alpha = tf.cast(tf.io.decode_png(encoded, channels=4)[..., 3:], tf.uint16)
    white = tf.constant(255, tf.uint16)
    mixed = tf.cast(colour, tf.uint16) * alpha + white * (white - alpha)
    return tf.cast((mixed + 127) // white, tf.uint8)


def decode_batch(
    encoded: tf.Tensor,
    height: int,
    width: int,
    channels: int,
    max_pixels: int = config.MAX_PIXELS,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes, resizes and normalises a batch in which any image may be broken.

    Decoding ops fail the whole graph on one bad image, and TensorFlow has no decoder that reports instead. The batch
    therefore runs as a `tf.data` pipeline inside the graph, which leaves out what failed; every image that comes
    back carries its row. All of it is stock ops, so a model server needs nothing added.

    Args:
      encoded: string [N], one JPEG or PNG a row.
      height: rows of the result, pixels.
      width: columns of the result, pixels.
      channels: 1 (grey) or 3 (RGB); the images are converted.
      max_pixels: an image whose header states more, or more than its bytes can stand for, is not decoded.

    Returns:
      float32 [N, height, width, channels] in [-1, 1], zeros where the status is not 0; and int32 [N], a status of
      `longtail.models.export.signatures`.
    """
    count = tf.shape(encoded, out_type=tf.int64)[0]
    nothing = tf.zeros([height, width, channels], tf.float32)

    def one(row, image):
        is_jpeg = tf.io.is_jpeg(image)
        stated, length = _stated_pixels(image, is_jpeg), tf.cast(tf.strings.length(image), tf.int64)
        most = length * tf.where(is_jpeg, *(tf.constant(pictures.PIXELS_A_BYTE[kind], tf.int64) for kind in _KINDS))
        too_large = stated > tf.minimum(tf.constant(max_pixels, tf.int64), most)

        def read():
            resized = tf.image.resize(decode_one(image, channels), [height, width], antialias=True)
            return normalise(tf.ensure_shape(resized, [height, width, channels]))

        status = tf.where(too_large, signatures.STATUS_TOO_LARGE, signatures.STATUS_OK)
        return row, status, tf.cond(too_large, lambda: nothing, read)

    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    decoded = rows.map(one, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    # A last row of nothing, so that there is a batch to take even when every image was broken.
    last = tf.data.Dataset.from_tensors((count, tf.constant(signatures.STATUS_OK), nothing))
    found, status, pixels = decoded.concatenate(last).batch(count + 1).get_single_element()
    place = found[:, tf.newaxis]
    pixels = tf.scatter_nd(place, pixels, [count + 1, height, width, channels])[:count]
    status = tf.tensor_scatter_nd_update(
        tf.fill([count + 1], signatures.STATUS_UNDECODABLE), place, status
    )[:count]
    return pixels, status


class Preprocess(tf.Module):
    """`decode_batch` for one image shape, for training and exporting without a Transform graph."""

    def __init__(self, image_shape: tuple[int, int, int], max_pixels: int = config.MAX_PIXELS):
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.max_pixels = max_pixels

    def __call__(self, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """string [N] -> float32 [N, h, w, c] in [-1, 1], int32 [N]."""
        height, width, channels = self.image_shape
        return decode_batch(encoded, height, width, channels, self.max_pixels)

"""What an encoded image's first bytes say of how it is to be shown, read by stock TensorFlow ops: a served graph's."""

import tensorflow as tf

_WINDOW = 4096  # bytes that are looked at: cameras write the tag, and encoders the transparent colour, before pixels
_EXIF = {0: 0xFF, 1: 0xE1, **{4 + place: byte for place, byte in enumerate(b"Exif\0\0")}}  # place: byte
_TRANSPARENT_COLOUR = dict(enumerate(b"tRNS"))
_COLOUR_TYPE = 25  # place in a PNG; 4 and 6 have an alpha channel
_ORIENTATION = 0x0112
_MOST_TAGS = 64


def _first(head: tf.Tensor, pattern: dict[int, int]) -> tf.Tensor:
    """Where a pattern begins in uint8 [N]; -1 where it does not occur."""
    places = tf.maximum(tf.size(head) - max(pattern), 0)
    found = tf.ones([places], tf.bool)
    for place, byte in pattern.items():
        found &= head[place : place + places] == byte
    where = tf.where(found)
    return tf.cond(tf.size(where) > 0, lambda: where[0, 0], lambda: tf.constant(-1, tf.int64))


def orientation(jpeg: tf.Tensor) -> tf.Tensor:
    """The orientation tag of a JPEG's EXIF, int64 1..8; 1 where there is none in its first bytes."""
    head = tf.io.decode_raw(tf.strings.substr(jpeg, 0, _WINDOW), tf.uint8)
    begin = _first(head, _EXIF)
    return tf.cond(begin < 0, lambda: tf.constant(1, tf.int64), lambda: _tag(tf.cast(head, tf.int64), begin + 10))


def _tag(head: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
    """The tag's value in the TIFF header that begins at `begin`."""
    head = tf.concat([head, tf.zeros([12], tf.int64)], 0)  # so that there is something behind the last byte
    little = head[begin] == ord("I")

    def number(places, length):
        """Numbers of `length` bytes at `places`, [...]; 0 beyond the window."""
        inside = tf.logical_and(places >= 0, places + length <= tf.size(head, tf.int64))
        at = tf.where(inside, places, 0)[..., tf.newaxis] + tf.range(length, dtype=tf.int64)
        weight = tf.constant([256**power for power in range(length)], tf.int64)
        digits = tf.gather(head, at) * tf.where(little, weight, weight[::-1])
        return tf.where(inside, tf.reduce_sum(digits, -1), 0)

    table = begin + number(begin + 4, 4)
    tags = tf.minimum(number(table, 2), _MOST_TAGS)
    entries = table + 2 + 12 * tf.range(tags, dtype=tf.int64)
    values = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _ORIENTATION)
    value = tf.reduce_sum(values[:1])
    return tf.where((value >= 1) & (value <= 8), value, 1)


def turn(pixels: tf.Tensor, tag: tf.Tensor) -> tf.Tensor:
    """An image [h, w, c] with such an orientation tag, upright."""

    def turned():
        mirrored = tf.cond(tag >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        # After the transposition of 5 to 8, what is left is a mirror or two.
        across = tf.reduce_any(tag == tf.constant([2, 3, 6, 7], tf.int64))
        down = tf.reduce_any(tag == tf.constant([3, 4, 7, 8], tf.int64))
        mirrored = tf.cond(across, lambda: mirrored[:, ::-1], lambda: mirrored)
        return tf.cond(down, lambda: mirrored[::-1], lambda: mirrored)

    return tf.cond(tag == 1, lambda: pixels, turned)


def may_be_transparent(png: tf.Tensor) -> tf.Tensor:
    """Whether a PNG has an alpha channel, or names a transparent colour in its first bytes."""
    head = tf.io.decode_raw(tf.strings.substr(png, 0, _WINDOW), tf.uint8)
    kind = head[_COLOUR_TYPE]
    return (kind == 4) | (kind == 6) | (_first(head, _TRANSPARENT_COLOUR) >= 0)

"""Augmentation of training batches; every draw is a function of a seed, so a resumed run sees what it would have."""

import tensorflow as tf

from longtail.models import config as config_lib


def augment(images: tf.Tensor, seed: tf.Tensor, how: config_lib.Augmentation) -> tf.Tensor:
    """Augments float32 [B, h, w, c]; `seed` int [2] decides every draw. Uncovered corners repeat the edge.

    Example: four images of the pixels 0 and 1; this seed mirrors the first two, always.

    >>> images, seed = tf.reshape([0.0, 1.0] * 4, [4, 1, 2, 1]), tf.constant([0, 3])
    >>> augment.augment(images, seed, config.Augmentation(flip=True)).numpy().reshape([4, 2])
    array([[1., 0.],
           [1., 0.],
           [0., 1.],
           [0., 1.]], dtype=float32)
    """
    if how.flip:
        coin = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed + 1) < 0.5
        images = tf.where(coin, images[:, :, ::-1], images)
    if how.shift or how.rotation:
        images = _move(images, seed + 2, how)
    if how.erase:
        images = _erase(images, seed + 3, how.erase)
    return images


def _move(images, seed, how):
    import tensorflow_addons as tfa  # Addons is at its end of life: imported where it is used, never further

    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform([batch, 3], seed, -1.0, 1.0)
    radians = draws[:, 0] * how.rotation * (3.141592653589793 / 180.0)
    turn = tfa.image.transform_ops.angles_to_projective_transforms(radians, float(height), float(width))
    zero = tf.zeros([batch])
    across, down = draws[:, 1] * how.shift * width, draws[:, 2] * how.shift * height
    one = zero + 1.0
    shift = tf.stack([one, zero, across, zero, one, down, zero, zero], axis=1)
    moves = tfa.image.transform_ops.compose_transforms([turn, shift])
    return tfa.image.transform(images, moves, interpolation="bilinear", fill_mode="nearest")


def _erase(images, seed, probability):
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    draws = tf.random.stateless_uniform([batch, 5], seed)
    area = 0.02 + 0.31 * draws[:, 0]
    ratio = tf.exp((2.0 * draws[:, 1] - 1.0) * tf.math.log(1.0 / 0.3))
    rows = tf.minimum(tf.sqrt(area * ratio), 1.0) * height
    columns = tf.minimum(tf.sqrt(area / ratio), 1.0) * width
    top, left = draws[:, 2] * (height - rows), draws[:, 3] * (width - columns)

    def within(start, length, size):
        at = tf.range(size, dtype=tf.float32)[tf.newaxis]
        return (at >= start[:, tf.newaxis]) & (at < (start + length)[:, tf.newaxis])

    hole = within(top, rows, height)[:, :, tf.newaxis] & within(left, columns, width)[:, tf.newaxis]
    hole &= (draws[:, 4] < probability)[:, tf.newaxis, tf.newaxis]
    return tf.where(hole[..., tf.newaxis], 0.0, images)

"""What a model has to beat: embeddings that nobody trained, an image's own pixels."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

_SIDE = 16
_COMPONENTS = 64  # at most


def read(images: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Small grey pictures.

    Args:
      images: encoded, of any size.

    Returns:
      float32 [N, 256], 16x16 pixels from 0 to 1, zeros where an image is not decodable; and bool [N], where it is.
    """
    rows, usable = [], []
    for encoded in images:
        try:
            rows.append(_shrink(encoded).numpy())
            usable.append(True)
        except tf.errors.OpError:
            rows.append(np.zeros(_SIDE * _SIDE, np.float32))
            usable.append(False)
    return np.array(rows, np.float32).reshape(-1, _SIDE * _SIDE), np.array(usable, bool)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _shrink(encoded):
    picture = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    picture = tf.ensure_shape(picture, [None, None, 3])
    grey = tf.image.rgb_to_grayscale(tf.cast(picture, tf.float32) / 255.0)
    return tf.reshape(tf.image.resize(grey, [_SIDE, _SIDE], "area"), [-1])


def embeddings(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Two embeddings of pictures, by name; the mean and the components are those of these very pictures.

    Args:
      pixels: float32 [N, d], as `read` gives them.

    Returns:
      `centred pixels`, float32 [N, d]: without the mean picture; and `PCA of pixels`, float32 [N, at most 64]: their
      principal components, each scaled to variance 1.
    """
    centred = pixels - pixels.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = centred.T.astype(np.float64) @ centred / max(1, len(centred))
    variance, axes = np.linalg.eigh(covariance)
    kept = np.flatnonzero(variance > 1e-6 * max(variance[-1], 1e-12))[-_COMPONENTS:]
    components = centred @ (axes[:, kept] / np.sqrt(variance[kept]))
    return {"centred pixels": centred, "PCA of pixels": components.astype(np.float32)}

"""The transfer itself: what lies around a head class's centre, moved to a tail class's (Yin et al., CVPR 2019)."""

import numpy as np
import tensorflow as tf

from longtail.models.leap import angle_memory


class FeatureTransfer(tf.keras.layers.Layer):
    """g~ = c_tail + Q Q' (g - c_head): rich features of head images, as if they were of tail classes (Eq. 6).

    The paper's Algorithm 1 has the centres the other way round; then what is transferred would lie around the head's
    centre. `known` fills the state, float32: C n for the centres, n^2 for Q, whose columns after its rank are zeros.

    Args:
      classes: C.

    Example: of the deviation (3, 4) from the head's centre, Q keeps the first entry.

    >>> layer = transfer.FeatureTransfer(classes=2)
    >>> layer.build([None, 2])
    >>> layer.known(np.array([[1.0, 1.0], [10.0, 10.0]]), np.array([[1.0], [0.0]]))
    >>> layer(tf.constant([[4.0, 5.0]]), labels=tf.constant([0]), to=tf.constant([1])).numpy()
    array([[13., 10.]], dtype=float32)
    """

    def __init__(self, classes: int, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.classes = classes

    def build(self, input_shape):
        rich = input_shape[-1]
        self.centres = angle_memory.add_state(self, "centres", [self.classes, rich], tf.float32)
        self.basis = angle_memory.add_state(self, "basis", [rich, rich], tf.float32)
        super().build(input_shape)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}

    def known(self, centres: np.ndarray, basis: np.ndarray) -> None:
        """Takes over centres [C, n] and Q [n, r]."""
        self.centres.assign(centres)
        self.basis.assign(np.pad(basis, ((0, 0), (0, len(basis) - basis.shape[1]))))

    def call(self, rich: tf.Tensor, labels: tf.Tensor, to: tf.Tensor) -> tf.Tensor:
        """Transferred rich features, float32 [B, n].

        Args:
          rich: float32 [B, n], g of images of head classes.
          labels: int [B], these classes.
          to: int [B], tail classes.
        """
        return tf.gather(self.centres, to) + self.kept(rich - tf.gather(self.centres, labels))

    def kept(self, apart: tf.Tensor) -> tf.Tensor:
        """Q Q' of deviations: float32 [B, n]."""
        return tf.matmul(tf.matmul(apart, self.basis), self.basis, transpose_b=True)

    def at_random(self, rich: tf.Tensor, labels: tf.Tensor, to: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """A control: as `call`, but each deviation keeps its length, in a direction drawn by `seed`, int [2]."""
        apart = self.kept(rich - tf.gather(self.centres, labels))
        drawn = tf.math.l2_normalize(tf.random.stateless_normal(tf.shape(apart), seed), axis=1)
        return tf.gather(self.centres, to) + drawn * tf.norm(apart, axis=1, keepdims=True)


def keep_identity(centre: np.ndarray, rich: np.ndarray, of: np.ndarray, basis: np.ndarray, alpha: float) -> np.ndarray:
    """c_1 + alpha Q Q' (g_2 - c_2): one class from its centre on towards how an image of another class looks, [n].

    Args:
      centre: float [n], c_1.
      rich: float [n], g_2.
      of: float [n], c_2.
      basis: float [n, r], Q.
      alpha: how far.

    Example:

    >>> transfer.keep_identity(np.array([1.0, 1.0]), np.array([4.0, 5.0]), np.zeros(2), np.eye(2)[:, :1], alpha=0.5)
    array([3., 1.])
    """
    return centre + alpha * (basis @ (basis.T @ (rich - of)))


def change_identity(rich: np.ndarray, centre: np.ndarray, to: np.ndarray, alpha: float) -> np.ndarray:
    """g_1 + alpha (c_2 - c_1): an image that becomes one of another class and stays as it looks, [n].

    Example:

    >>> transfer.change_identity(np.array([3.0]), np.array([1.0]), np.array([5.0]), alpha=0.5)
    array([5.])
    """
    return rich + alpha * (to - centre)

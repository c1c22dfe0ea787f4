"""Products of unit features and unit prototypes, cheap at many classes and finite where a length is zero."""

import tensorflow as tf

# Squared lengths of features below this are taken for this: s / |f| stays finite in float16.
_LEAST_SQUARE = 1e-6
# Prototypes shorter than this are taken for zero.
_LEAST_LENGTH = 1e-6
# Numbers in a block of prototypes that is squared at once.
_BLOCK = 2**20


def unit(features: tf.Tensor) -> tf.Tensor:
    """Features [B, d] of any float dtype at length one, float32; shorter than 1e-3 they stay shorter than one.

    Example:

    >>> cosine_similarity.unit(tf.constant([[3.0, 4.0]])).numpy()
    array([[0.6, 0.8]], dtype=float32)
    """
    return tf.math.l2_normalize(tf.cast(features, tf.float32), axis=-1, epsilon=_LEAST_SQUARE)


def lengths(features: tf.Tensor) -> tf.Tensor:
    """Lengths of features [B, d] of any float dtype: float32 [B], at least 1e-3.

    Example:

    >>> cosine_similarity.lengths(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy()
    array([5.   , 0.001], dtype=float32)
    """
    squares = tf.reduce_sum(tf.square(tf.cast(features, tf.float32)), axis=-1)
    return tf.sqrt(tf.maximum(squares, _LEAST_SQUARE))


def inverse_lengths(prototypes: tf.Tensor) -> tf.Tensor:
    """One over the length of each column of float32 [d, C]: finite, and without gradient, where a column is zero.

    Cosines scaled after the product cost a pass over [B, C]; prototypes normalised before it, six over [d, C].

    Example:

    >>> cosine_similarity.inverse_lengths(tf.constant([[3.0, 0.0], [4.0, 2.0]])).numpy()
    array([0.2, 0.5], dtype=float32)
    """

    @tf.custom_gradient
    def inverted(prototypes):
        length = tf.sqrt(squared_lengths(prototypes))
        inverse = 1.0 / tf.maximum(length, _LEAST_LENGTH)

        def gradient(upstream):
            return prototypes * tf.where(length > _LEAST_LENGTH, -upstream * inverse**3, 0.0)

        return inverse, gradient

    return inverted(tf.convert_to_tensor(prototypes))


def squared_lengths(prototypes: tf.Tensor) -> tf.Tensor:
    """Squared length of each column: float32 [C] from [d, C].

    In blocks of rows whose squares fit a cache (at most 32): half the time of one [d, C] of squares.

    Example:

    >>> cosine_similarity.squared_lengths(tf.constant([[3.0, 0.0], [4.0, 2.0]])).numpy()
    array([25.,  4.], dtype=float32)
    """
    dimension, classes = prototypes.shape
    rows = max(_BLOCK // classes, -(-dimension // 32), 1)
    blocks = [prototypes[start : start + rows] for start in range(0, dimension, rows)]
    return tf.add_n([tf.reduce_sum(tf.square(block), axis=0) for block in blocks])


@tf.custom_gradient
def gather_target(matrix: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Float [B, C] as it is, and its entries at `labels` (int32 [B]); their gradients are added up in place.

    Example:

    >>> _, target = cosine_similarity.gather_target(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([0, 1]))
    >>> target.numpy()
    array([1., 4.], dtype=float32)
    """

    def gradient(upstream, of_target):
        return tf.tensor_scatter_nd_add(upstream, _places(labels), of_target), None

    return (tf.identity(matrix), tf.gather(matrix, labels, batch_dims=1)), gradient


@tf.custom_gradient
def scatter_target(matrix: tf.Tensor, labels: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Float [B, C] with `target` [B] in the places of `labels` (int32 [B]): B writes, no pass over the matrix.

    Example:

    >>> matrix, labels = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([0, 1])
    >>> cosine_similarity.scatter_target(matrix, labels, tf.constant([8.0, 9.0])).numpy()
    array([[8., 2.],
           [3., 9.]], dtype=float32)
    """

    def gradient(upstream):
        of_target = tf.gather(upstream, labels, batch_dims=1)
        with tf.control_dependencies([of_target]):  # once it is read, its buffer is free to be written
            return tf.tensor_scatter_nd_update(upstream, _places(labels), tf.zeros_like(of_target)), None, of_target

    return tf.tensor_scatter_nd_update(matrix, _places(labels), target), gradient


def _places(labels):
    return tf.stack([tf.range(tf.size(labels)), labels], axis=1)

"""Which rows of a batch are of one class: what an update that many rows of a class share is made from."""

import tensorflow as tf


def runs(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """For each row of a batch: its class's number in the batch, its rank in it, its size, and whether it is first.

    Static shapes and no `tf.unique`, so it compiles under XLA.

    Args:
      labels: int64 [B], class ids.

    Returns:
      int32 [B] three times and bool [B].

    Example:

    >>> run, rank, size, first = batch_runs.runs(tf.constant([7, 2, 7], tf.int64))
    >>> run.numpy(), rank.numpy()
    (array([1, 0, 1], dtype=int32), array([0, 0, 1], dtype=int32))
    >>> size.numpy(), first.numpy()
    (array([2, 1, 2], dtype=int32), array([ True,  True, False]))
    """
    order = tf.argsort(labels, stable=True)
    ordered = tf.gather(labels, order)
    starts = tf.concat([[True], ordered[1:] != ordered[:-1]], axis=0)
    run = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    position = tf.range(tf.size(labels))
    size_of_batch = tf.size(labels)
    first = tf.math.unsorted_segment_min(position, run, size_of_batch)
    size = tf.math.unsorted_segment_sum(tf.ones_like(position), run, size_of_batch)
    back = tf.math.invert_permutation(order)
    rank = position - tf.gather(first, run)
    return (
        tf.gather(run, back),
        tf.gather(rank, back),
        tf.gather(tf.gather(size, run), back),
        tf.gather(starts, back),
    )

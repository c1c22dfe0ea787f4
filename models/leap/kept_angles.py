"""The angles that an angle memory keeps, taken out oldest first and put into another: classes and sizes may differ."""

from typing import NamedTuple

import numpy as np

from longtail.models.leap import angle_memory


class Kept(NamedTuple):
    """The angles of some classes, one class behind the other, each oldest first.

    Attributes:
      angles: float32 [sum of counts], radians.
      counts: int64 [C], how many are kept of each class.

    Example:

    >>> kept_angles.Kept(np.array([0.1, 0.2, 0.3], np.float32), np.array([1, 2])).angles.shape
    (3,)
    """

    angles: np.ndarray
    counts: np.ndarray


def _places(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of numbers that lie one class behind the other: whose each is, and the how manieth of its class."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def take(memory: angle_memory.AngleMemory) -> Kept:
    """What a memory keeps.

    Example: of three angles, 0 among them, a class of one image keeps the last two.

    >>> memory = angle_memory.AngleMemory(counts=[1, 1], images_kept=2, angle_order="before")
    >>> for feature in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]):
    ...     _ = memory(tf.constant([feature]), labels=tf.constant([0]))
    >>> kept = kept_angles.take(memory)
    >>> kept.counts, (kept.angles / np.pi).round(2)
    (array([2, 0]), array([0.5 , 0.54], dtype=float32))
    """
    sizes, seen = memory.counts * memory.images_kept, memory.seen.numpy()
    counts = np.minimum(seen, sizes)
    owner, rank = _places(counts)
    slot = ((seen - counts)[owner] + rank) % sizes[owner]  # the n-th angle of a class went to slot n modulo its size
    return Kept(memory.angles.numpy()[(np.cumsum(sizes) - sizes)[owner] + slot], counts)


def put(memory: angle_memory.AngleMemory, kept: Kept, source: np.ndarray) -> None:
    """Fills a memory with the angles kept of other classes, the newest where not all of them fit; makes its sums anew.

    Args:
      memory: whatever it kept is gone.
      kept: of C' classes.
      source: int [C], which of them is a class's, -1 for none: its memory is then empty.

    Example: class 1 was class 0, and has room for the two newest of its three angles.

    >>> memory = angle_memory.AngleMemory(counts=[1, 1], images_kept=2)
    >>> memory.build([None, 3])
    >>> kept_angles.put(memory, kept_angles.Kept(np.array([0.1, 0.2, 0.4]), np.array([3])), np.array([-1, 0]))
    >>> memory.mean(tf.constant([0, 1], tf.int64))[0].numpy().round(2), memory.seen.numpy()
    (array([0. , 0.3]), array([0, 2]))
    """
    sizes = memory.counts * memory.images_kept
    theirs = np.where(source >= 0, kept.counts[source], 0)
    counts = np.minimum(theirs, sizes)
    owner, rank = _places(counts)
    first = (np.cumsum(kept.counts) - kept.counts)[source] + theirs - counts
    angles = np.zeros(memory.angles.shape, np.float32)
    angles[(np.cumsum(sizes) - sizes)[owner] + rank] = kept.angles[first[owner] + rank]
    memory.angles.assign(angles)
    memory.seen.assign(counts)  # as if there had never been others: the next angle takes the oldest's place
    memory.recompute()

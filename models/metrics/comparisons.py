"""Which images are compared with which, streamed: verification never sees all similarities at once."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longtail.models import errors
from longtail.models.metrics import retrieval

# Similarities held at once: 4 Mi float32, 16 MiB, and twice that where they are counted.
_CHUNK_CELLS = 1 << 22


class Chunk(NamedTuple):
    """Some comparisons; all arrays broadcast to the shape of `similarity`.

    Attributes:
      similarity: float32, cosine of the angle between the two embeddings.
      same: bool, whether both are of one identity.
      left: int64, dense code of the first image's identity.
      right: int64, of the second one's.

    Example:

    >>> next(iter(comparisons.AllPairs(np.eye(2), ["a", "b"]))).same.tolist()
    [False]
    """

    similarity: np.ndarray
    same: np.ndarray
    left: np.ndarray
    right: np.ndarray


class AllPairs:
    """Every image against every other, each pair once.

    It can be iterated over more than once. Memory is the embeddings and a chunk of 16 MiB, whatever their number.

    Args:
      embedding: float [N, d], any length but zero; normalised here in float32.
      identities: [N] integers, str or bytes.

    Attributes:
      identities: how many identities there are.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example: of three images, two of "a".

    >>> [chunk.same.tolist() for chunk in comparisons.AllPairs(np.eye(3), ["a", "a", "b"])]
    [[True, False, False]]
    """

    def __init__(self, embedding: np.ndarray, identities: Sequence | np.ndarray):
        self._embedding = retrieval.unit("embedding", embedding, identities)
        names, self._codes = np.unique(np.asarray(identities), return_inverse=True)
        self.identities = len(names)

    def __iter__(self) -> Iterator[Chunk]:
        count = len(self._embedding)
        begin = 0
        while begin < count - 1:
            rows = max(1, _CHUNK_CELLS // (count - begin))
            end = min(count, begin + rows)
            similarity = self._embedding[begin:end] @ self._embedding[begin:].T
            upper, left = np.triu_indices(end - begin, 1), self._codes[begin:end]
            yield _chunk(similarity[upper], left[upper[0]], left[upper[1]])
            if end < count:
                yield _chunk(similarity[:, end - begin :], left[:, None], self._codes[None, end:])
            begin = end


class Listed:
    """Pairs as somebody listed them.

    Args:
      left: float [P, d], embedding of each pair's first image; normalised here in float32.
      right: float [P, d], of its second.
      left_identities: [P], of the first images.
      right_identities: [P], of the second ones: a pair of one identity is a "same" pair.

    Attributes:
      identities: how many identities there are.
      chunk: all pairs at once.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example:

    >>> comparisons.Listed([[1.0, 0.0]], [[2.0, 0.0]], ["a"], ["a"]).chunk.similarity
    array([1.], dtype=float32)
    """

    def __init__(
        self,
        left: np.ndarray,
        right: np.ndarray,
        left_identities: Sequence | np.ndarray,
        right_identities: Sequence | np.ndarray,
    ):
        left = retrieval.unit("left", left, left_identities)
        right = retrieval.unit("right", right, right_identities)
        if left.shape != right.shape:
            raise ValueError(f"`left` and `right` must have one shape. Received: {left.shape} and {right.shape}")
        both = np.concatenate([np.asarray(left_identities), np.asarray(right_identities)])
        names, codes = np.unique(both, return_inverse=True)
        self.identities = len(names)
        similarity = np.einsum("pd,pd->p", left, right)
        self.chunk = _chunk(similarity, codes[: len(left)], codes[len(left) :])

    def __iter__(self) -> Iterator[Chunk]:
        yield self.chunk


Comparisons = AllPairs | Listed


def _chunk(similarity: np.ndarray, left: np.ndarray, right: np.ndarray) -> Chunk:
    return Chunk(similarity, left == right, left, right)


def mean_similarity(embedding: np.ndarray) -> float:
    """Mean cosine of all pairs of different rows, in O(N d): near 1 where a model maps everything to one direction.

    Args:
      embedding: float [N, d], N at least 2.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.
      errors.WorkError: fewer than two rows.

    Example:

    >>> comparisons.mean_similarity(np.ones((3, 2))), comparisons.mean_similarity(np.eye(2))
    (1.0, 0.0)
    """
    unit = retrieval.unit("embedding", embedding, embedding)
    count = len(unit)
    if count < 2:
        raise errors.WorkError(f"{count} embeddings: two at least are needed to compare")
    total = unit.sum(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->", unit, unit, dtype=np.float64)
    return round(float((total @ total - squares) / (count * (count - 1))), 6) + 0.0

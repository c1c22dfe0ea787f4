"""How alike two embeddings are, whatever their length: the one place where serving normalises, and refuses a NaN."""

import numpy as np

from longtail.models import errors


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings at length 1, float32 [N, d]; zeros stay zeros.

    Args:
      embeddings: float [N, d].

    Raises:
      errors.UsageError: a value is not finite.

    Example:

    >>> similarity.unit([[3.0, 4.0]])
    array([[0.6, 0.8]], dtype=float32)
    """
    vectors = np.ascontiguousarray(embeddings, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise errors.UsageError("an embedding holds values that are not finite; nothing is near it")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two embeddings, in [-1, 1] but for rounding.

    Args:
      one: float [d].
      other: float [d].

    Raises:
      errors.UsageError: a value is not finite.

    Example:

    >>> similarity.cosine([2.0, 0.0], [3.0, 0.0])
    1.0
    """
    first, second = unit(np.stack([one, other]))
    return float(first @ second)

"""The one rule that divides identities into head and tail: of the cloud, of tail health, of scores and of studies."""

import numpy as np
import numpy.typing as npt


def is_head(counts: npt.ArrayLike, threshold: int) -> np.ndarray:
    """Which identities are head; the others are tail.

    Args:
      counts: int [C], distinct images of each identity: K_i.
      threshold: T, a recipe's `leap.head_threshold`.

    Returns:
      bool [C], K_i > T.

    Example:
      >>> is_head([24, 10, 4], threshold=10).tolist()
      [True, False, False]
    """
    return np.asarray(counts) > threshold


def rule(threshold: int, identities: str) -> str:
    """The rule in words, for the caption of a table.

    Args:
      threshold: T.
      identities: whose images are counted, such as "held-out identities".

    Example:
      >>> rule(10, "held-out identities")
      'head: held-out identities with more than 10 images; tail: all others'
    """
    return f"head: {identities} with more than {threshold} images; tail: all others"

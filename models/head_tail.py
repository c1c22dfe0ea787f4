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


def bins(counts: npt.ArrayLike) -> dict[str, np.ndarray]:
    """Which identities have many, medium or few images (Liu et al., Large-Scale Long-Tailed Recognition, CVPR 2019).

    Args:
      counts: int [C], distinct images of each identity.

    Returns:
      `many`, more than 100; `medium`, 20 to 100; `few`, fewer than 20: bool [C] each.

    Example:
      >>> {name: found.tolist() for name, found in bins([101, 20, 4]).items()}
      {'many': [True, False, False], 'medium': [False, True, False], 'few': [False, False, True]}
    """
    counts = np.asarray(counts)
    return {"many": counts > 100, "medium": (counts >= 20) & (counts <= 100), "few": counts < 20}

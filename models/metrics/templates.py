"""Several images of somebody as one embedding: IJB's templates, of stills and of videos."""

from collections.abc import Sequence

import numpy as np

from longtail.models.metrics import retrieval


def pool(
    embedding: np.ndarray, template_ids: Sequence | np.ndarray, media_ids: Sequence | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One embedding a template: images of a medium are averaged, then the template's media (Whitelam et al., IJB-B).

    So a video of a thousand frames counts as much as a photograph.

    Args:
      embedding: float [N, d]; normalised here in float32.
      template_ids: [N], which template each image is of.
      media_ids: [N], which medium; each image is one of its own by default.

    Returns:
      The templates in sorted order [T], and float32 [T, d], l2-normalised. Sums are float64.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example: two frames of one video count as the one photograph beside them.

    >>> templates.pool([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], ["t", "t", "t"], media_ids=[7, 7, 8])[1]
    array([[0.7071, 0.7071]], dtype=float32)
    """
    unit = retrieval.unit("embedding", embedding, template_ids)
    media = np.arange(len(unit)) if media_ids is None else np.asarray(media_ids)
    if len(media) != len(unit):
        raise ValueError(f"`media_ids` must have one entry an image, {len(unit)}. Received: {len(media)}")
    names, template = np.unique(np.asarray(template_ids), return_inverse=True)
    medium = np.unique(media, return_inverse=True)[1]
    # A medium may be in several templates, and is averaged in each by itself.
    pairs, row = np.unique(np.stack([template, medium], axis=1), axis=0, return_inverse=True)
    row = row.ravel()
    means = _sums(unit, row, len(pairs)) / np.bincount(row, minlength=len(pairs))[:, None]
    pooled = _sums(means, pairs[:, 0], len(names))
    return names, retrieval.unit("embedding", pooled, names)


def _sums(rows: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    total = np.zeros((count, rows.shape[1]), np.float64)
    np.add.at(total, groups, rows)
    return total

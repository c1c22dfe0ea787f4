"""Embeddings on a plane, for people to look at: t-SNE, exact, in NumPy, for as many as one picture can show."""

import numpy as np
import numpy.typing as npt

from longtail.models.metrics import retrieval

_STEPS, _EARLY = 500, 100  # of the descent, and of those with attraction exaggerated
_EXAGGERATION = 12.0
_BISECTIONS = 40


def tsne(embedding: npt.ArrayLike, perplexity: float = 20.0, seed: int = 0) -> np.ndarray:
    """Places on a plane, near where embeddings are near (van der Maaten and Hinton, JMLR 2008); O(N^2) a step.

    Args:
      embedding: float [N, d], any length but zero; normalised here, so that distances are those of cosines.
      perplexity: about how many neighbours of each count; at most a third of the others.
      seed: of the places that it begins from.

    Returns:
      float64 [N, 2], each coordinate from 0 to 1.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example: two pairs of neighbours stay neighbours.

    >>> places = neighbour_map.tsne([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]], perplexity=1)
    >>> bool(np.linalg.norm(places[0] - places[1]) < np.linalg.norm(places[0] - places[2]))
    True
    """
    rows = np.asarray(embedding, np.float32)
    unit = retrieval.unit("embedding", rows, rows).astype(np.float64)
    count = len(unit)
    if count < 3:
        return np.linspace(0, 1, count)[:, None].repeat(2, axis=1)
    wanted = _neighbourhood(2 - 2 * unit @ unit.T, min(perplexity, (count - 1) / 3))
    places = np.random.default_rng(seed).normal(scale=1e-4, size=(count, 2))
    speed, gain = np.zeros_like(places), np.ones_like(places)
    rate = max(count / _EXAGGERATION, 50.0)  # Belkina et al., Nature Communications 2019
    for step in range(_STEPS):
        early = step < _EARLY
        slope = _slope(places, wanted * _EXAGGERATION if early else wanted)
        gain = np.maximum(np.where(np.sign(slope) == np.sign(speed), 0.8 * gain, gain + 0.2), 0.01)
        speed = (0.5 if early else 0.8) * speed - rate * gain * slope
        places = places + speed
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-12)


def _neighbourhood(distance: np.ndarray, perplexity: float) -> np.ndarray:
    """How near any two are, float64 [N, N] of sum 1: Gaussians whose widths give each row the perplexity."""
    count = len(distance)
    apart = ~np.eye(count, dtype=bool)
    rows = np.maximum(distance[apart].reshape(count, count - 1), 0)
    rows -= rows.min(axis=1, keepdims=True)
    low, high = np.full((count, 1), 1e-6), np.full((count, 1), 1e9)
    for _ in range(_BISECTIONS):
        precision = np.sqrt(low * high)
        shares = _shares(rows, precision)
        entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
    found = np.zeros_like(distance)
    found[apart] = _shares(rows, np.sqrt(low * high)).ravel()
    return (found + found.T) / (2 * count)


def _shares(rows: np.ndarray, precision: np.ndarray) -> np.ndarray:
    weight = np.exp(-rows * precision)
    return weight / weight.sum(axis=1, keepdims=True)


def _slope(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Gradient of the divergence of the places' neighbourhoods from those wanted."""
    length = (places**2).sum(axis=1)
    near = 1 / (1 + np.maximum(length[:, None] + length - 2 * places @ places.T, 0))
    np.fill_diagonal(near, 0)
    pull = (wanted - near / near.sum()) * near
    return 4 * (pull.sum(axis=1)[:, None] * places - pull @ places)

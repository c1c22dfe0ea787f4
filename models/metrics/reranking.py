"""Better rankings for more work: queries expanded by what they find, and neighbours that are so both ways."""

from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from longtail.models.metrics import retrieval

# Similarities held at once: 4 Mi float32, 16 MiB, and twice that for their order.
_CHUNK_CELLS = 1 << 22


def expand(
    query: np.ndarray,
    gallery: np.ndarray,
    count: int,
    alpha: float = 3.0,
    exclude_self: bool = False,
    apart: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> np.ndarray:
    """Alpha query expansion: each query moves towards what it finds (Radenovic et al., Fine-tuning CNN Image Retrieval
    with No Human Annotation, 2018).

    Memory is a chunk of similarities, 16 MiB or one row, and their order.

    Args:
      query: float [Q, d], any length but zero.
      gallery: float [G, d].
      count: how many of the nearest gallery images are added, each weighted by its similarity, or 0 if that is
        negative, to the power of `alpha`; the query itself has the weight 1.
      alpha: 0 is the plain mean (average query expansion).
      exclude_self: gallery and queries are the same images in the same order; none is added to itself.
      apart: pairs of labels, [Q] and [G]; a gallery image with the query's label is not added to it. Such as who and
        which file, or who and which camera, where `retrieval.score_queries` leaves these out.

    Returns:
      float32 [Q, d], at length 1.

    Raises:
      ValueError: shapes do not fit, a value is not finite, or `count` is below 1.

    Example: the second gallery image is too far to be added.

    >>> reranking.expand([[1.0, 0.0]], [[0.6, 0.8], [0.0, 1.0]], count=1, alpha=0.0)
    array([[0.8944, 0.4472]], dtype=float32)
    """
    query, gallery = retrieval.unit("query", query, query), retrieval.unit("gallery", gallery, gallery)
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: {count}")
    count = min(count, len(gallery) - exclude_self)
    expanded = query.copy()
    if count < 1:
        return expanded
    for part in _parts(len(query), len(gallery)):
        similarity = query[part] @ gallery.T
        if exclude_self:
            similarity[np.arange(len(similarity)), np.arange(part.start, part.stop)] = -np.inf
        for own, theirs in apart:
            similarity[own[part, None] == theirs] = -np.inf
        nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(similarity, nearest, axis=1)
        weight = np.where(np.isfinite(near), np.maximum(near, 0) ** np.float32(alpha), np.float32(0))
        expanded[part] += np.einsum("qn,qnd->qd", weight, gallery[nearest])
    return retrieval.unit("query", expanded, expanded)


class KReciprocal:
    """Re-ranking by k-reciprocal neighbours (Zhong et al., Re-ranking Person Re-identification with k-reciprocal
    Encoding, CVPR 2017): who shares a query's neighbours, both ways, comes before who is merely near.

    It is given to `retrieval.score_queries` as `ranking`. All images, queries and gallery, may be neighbours; where the
    queries are the gallery (`exclude_self`), once each. Nothing of the size images x images is ever held: memory is the
    embeddings, the `k1` nearest of each image, its neighbours' weights, and chunks of similarities of 16 MiB.
    Images that `retrieval.score_queries` leaves out of a query's gallery, copies of its file and its own camera's, are
    neighbours like any other, as in the paper's own code.

    Args:
      k1: neighbours that may be reciprocal.
      k2: nearest images over which an image's neighbours are averaged; 1: none but its own.
      weight: of the original distance (lambda in the paper), 0 to 1; the rest is the Jaccard distance of neighbours.

    Raises:
      ValueError: a value is out of its range.

    Example: the second gallery image is no nearer than the third, but is a neighbour of the first, who is.

    >>> query, gallery = [[1.0, 0.0]], [[0.9, 0.4], [0.6, 0.8], [0.6, -0.8]]
    >>> ranking = reranking.KReciprocal(k1=2, k2=1)
    >>> plain = retrieval.score_queries(query, ["a"], gallery, ["a", "a", "b"])
    >>> better = retrieval.score_queries(query, ["a"], gallery, ["a", "a", "b"], ranking=ranking)
    >>> plain.average_precision, better.average_precision
    (array([0.8333]), array([1.]))
    """

    def __init__(self, k1: int = 20, k2: int = 6, weight: float = 0.3):
        if not (k1 >= 1 and k2 >= 1 and 0 <= weight <= 1):
            raise ValueError(
                f"`k1` and `k2` must be at least 1, `weight` in [0, 1]. Received: {k1}, {k2} and {weight}"
            )
        self.k1, self.k2, self.weight = k1, k2, weight

    def __call__(
        self, query: np.ndarray, gallery: np.ndarray, exclude_self: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each query's row and, float32 [G], the negative of its distances after re-ranking.

        Args:
          query: float32 [Q, d], at length 1.
          gallery: float32 [G, d], at length 1.
          exclude_self: gallery and queries are the same images in the same order.
        """
        if not len(query) or not len(gallery):
            return
        images = gallery if exclude_self else np.concatenate([query, gallery])
        nearest, farthest = _neighbours(images, max(self.k1 + 1, self.k2))
        weights = self._weights(images, nearest, farthest)
        of_gallery = weights[len(images) - len(gallery) :].tocsc()
        for part in _parts(len(query), len(gallery)):
            distance = (2 - 2 * (query[part] @ gallery.T)) / farthest[part, None]
            for row, original in zip(range(part.start, part.stop), distance, strict=True):
                jaccard = _jaccard(weights, of_gallery, row)
                yield row, -((1 - self.weight) * jaccard + self.weight * original).astype(np.float32)

    def _weights(self, images: np.ndarray, nearest: np.ndarray, farthest: np.ndarray) -> sparse.csr_matrix:
        """Each image's neighbours, weighted: float32 [N, N], rows of sum 1."""
        reciprocal = _reciprocal(nearest[:, : self.k1 + 1])
        half = _reciprocal(nearest[:, : int(np.around(self.k1 / 2)) + 1])
        # Whose own closer neighbours lie by more than two thirds among mine brings all of them along.
        shared = reciprocal.multiply(reciprocal @ half.T).tocoo()
        brings = shared.data > 2 / 3 * np.diff(half.indptr)[shared.col]
        bringing = sparse.csr_matrix(
            (np.ones(brings.sum(), np.float32), (shared.row[brings], shared.col[brings])), shared.shape
        )
        weights = (reciprocal + bringing @ half).tocsr()
        rows = np.repeat(np.arange(len(images)), np.diff(weights.indptr))
        for part in _parts(len(rows), images.shape[1]):
            similarity = np.einsum("nd,nd->n", images[rows[part]], images[weights.indices[part]])
            weights.data[part] = np.exp(-(2 - 2 * similarity) / farthest[rows[part]])
        total = np.bincount(rows, weights.data, len(images))
        weights.data = (weights.data / total[rows]).astype(np.float32)
        if self.k2 == 1:
            return weights
        return (_selecting(nearest[:, : self.k2]) @ weights).tocsr() / np.float32(min(self.k2, len(images)))


def _parts(rows: int, cells: int) -> Iterator[slice]:
    size = max(1, _CHUNK_CELLS // max(1, cells))
    for begin in range(0, rows, size):
        yield slice(begin, min(rows, begin + size))


def _neighbours(images: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image and its nearest ones, int32 [N, count], itself first; its largest squared distance, float32 [N]."""
    total = len(images)
    count = min(count, total)
    nearest, farthest = np.empty((total, count), np.int32), np.empty(total, np.float32)
    for part in _parts(total, total):
        similarity = images[part] @ images.T
        farthest[part] = np.maximum(2 - 2 * similarity.min(axis=1), retrieval.TIE)
        similarity[np.arange(len(similarity)), np.arange(part.start, part.stop)] = np.inf
        found = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, found, axis=1), axis=1, kind="stable")
        nearest[part] = np.take_along_axis(found, order, axis=1)
    return nearest, farthest


def _selecting(nearest: np.ndarray) -> sparse.csr_matrix:
    """[N, N] with a one at each image's neighbours."""
    total, count = nearest.shape
    bounds = np.arange(0, total * count + 1, count)
    return sparse.csr_matrix((np.ones(total * count, np.float32), nearest.ravel(), bounds), (total, total))


def _reciprocal(nearest: np.ndarray) -> sparse.csr_matrix:
    """[N, N] with a one where either is among the other's neighbours."""
    selecting = _selecting(nearest)
    return selecting.multiply(selecting.T).tocsr()


def _jaccard(weights: sparse.csr_matrix, of_gallery: sparse.csc_matrix, row: int) -> np.ndarray:
    """Distance of one image's neighbours to those of each gallery image, float64 [G]."""
    own = slice(weights.indptr[row], weights.indptr[row + 1])
    columns = weights.indices[own]
    parts: Sequence[slice] = [slice(of_gallery.indptr[one], of_gallery.indptr[one + 1]) for one in columns]
    sizes = of_gallery.indptr[columns + 1] - of_gallery.indptr[columns]
    theirs = np.concatenate([of_gallery.data[part] for part in parts])
    rows = np.concatenate([of_gallery.indices[part] for part in parts])
    shared = np.bincount(rows, np.minimum(theirs, np.repeat(weights.data[own], sizes)), of_gallery.shape[0])
    return 1 - shared / (2 - shared)

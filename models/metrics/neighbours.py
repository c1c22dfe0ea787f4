"""What each query finds, to be looked at: its nearest images, how wrong they are, and who is taken for whom."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longtail.models.metrics import retrieval

_CELLS = 1 << 24  # similarities held at once: 64 MiB


class Found(NamedTuple):
    """What Q queries find in a gallery.

    Attributes:
      rows: int64 [Q, k], the nearest gallery images, the nearest first.
      similarity: float32 [Q, k], their cosines; NaN where a query has fewer to find.
      right: float32 [Q], cosine of the nearest image of the query's identity; NaN where there is none.
      wrong: float32 [Q], of the nearest image of another identity; NaN where there is none.

    Example:

    >>> found = neighbours.search([[1.0, 0.0]], ["a"], [[0.6, 0.8], [0.8, 0.6]], ["a", "b"], ["1"], ["2", "3"], 2)
    >>> found.rows.tolist(), found.right, found.wrong
    ([[1, 0]], array([0.6], dtype=float32), array([0.8], dtype=float32))
    """

    rows: np.ndarray
    similarity: np.ndarray
    right: np.ndarray
    wrong: np.ndarray


def search(
    query: np.ndarray,
    query_ids: Sequence | np.ndarray,
    gallery: np.ndarray,
    gallery_ids: Sequence | np.ndarray,
    query_files: Sequence | np.ndarray,
    gallery_files: Sequence | np.ndarray,
    top: int,
) -> Found:
    """The nearest by cosine; an image of the query's identity that is its own file, byte for byte, is left out.

    Memory is a chunk of queries times the gallery, at most 64 MiB or one row.

    Args:
      query: float [Q, d], any length but zero.
      query_ids: [Q] identities.
      gallery: float [G, d].
      gallery_ids: [G] identities, of the same kind.
      query_files: [Q] digests of the files.
      gallery_files: [G] digests.
      top: k, how many are found.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example: the query itself is in the gallery.

    >>> neighbours.search([[1.0, 0.0]], ["a"], [[1.0, 0.0], [0.8, 0.6]], ["a", "a"], ["1"], ["1", "2"], 1).rows.tolist()
    [[1]]
    """
    query, gallery = retrieval.unit("query", query, query_ids), retrieval.unit("gallery", gallery, gallery_ids)
    names, others = np.asarray(query_ids), np.asarray(gallery_ids)
    files, theirs = np.asarray(query_files), np.asarray(gallery_files)
    step, parts = max(1, _CELLS // max(1, len(gallery))), []
    for begin in range(0, len(query), step):
        chunk = slice(begin, begin + step)
        same = names[chunk, None] == others
        similarity = query[chunk] @ gallery.T
        similarity[same & (files[chunk, None] == theirs)] = -np.inf
        parts.append(_nearest(similarity, same, min(top, len(gallery))))
    return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _nearest(similarity: np.ndarray, same: np.ndarray, top: int) -> tuple[np.ndarray, ...]:
    rows = np.argpartition(-similarity, top - 1, axis=1)[:, :top]
    order = np.argsort(-np.take_along_axis(similarity, rows, axis=1), axis=1, kind="stable")
    rows = np.take_along_axis(rows, order, axis=1)
    elsewhere = np.where(same, -np.inf, similarity)
    found = np.take_along_axis(similarity, rows, axis=1)
    right = np.where(same, similarity, -np.inf).max(axis=1)
    return rows, _known(found), _known(right), _known(elsewhere.max(axis=1))


def _known(similarity: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(similarity), similarity, np.nan).astype(np.float32)


def most_wrong(found: Found) -> np.ndarray:
    """Queries by how much nearer the nearest wrong image is than the nearest right one, the most wrong first.

    Queries that have no right image come last, the most similar to somebody else first.

    Args:
      found: of Q queries.

    Returns:
      int64 [Q].

    Example: the second one is wrong.

    >>> gallery = [[1.0, 0.0], [0.0, 1.0]]
    >>> found = neighbours.search(gallery, ["a", "a"], gallery, ["a", "b"], ["1", "2"], ["3", "4"], 1)
    >>> neighbours.most_wrong(found).tolist()
    [1, 0]
    """
    strange = np.isnan(found.right)
    wrong = np.nan_to_num(found.wrong, nan=-1.0)
    return np.lexsort((-np.where(strange, wrong, wrong - found.right), strange))


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Two identities that are alike to a model.

    Attributes:
      identity: whose queries.
      other: whom they are compared with.
      taken: how many of the queries have an image of the other as their nearest.
      queries: how many there are.
      similarity: mean cosine of the queries and the other's gallery images.

    Example:

    >>> neighbours.Confusion("a", "b", taken=1, queries=4, similarity=0.5).taken
    1
    """

    identity: str
    other: str
    taken: int
    queries: int
    similarity: float


def confusions(
    found: Found,
    query: np.ndarray,
    query_ids: Sequence | np.ndarray,
    gallery: np.ndarray,
    gallery_ids: Sequence | np.ndarray,
    most: int = 20,
) -> list[Confusion]:
    """The pairs of identities that are most often taken for each other, and those that are most similar on average.

    Args:
      found: what the queries found.
      query: float [Q, d].
      query_ids: [Q].
      gallery: float [G, d].
      gallery_ids: [G].
      most: pairs of either kind.

    Returns:
      At most twice `most`: those most often taken first, then the most similar.

    Example: one of two queries of "a" is nearer to "b".

    >>> query, gallery = np.array([[1.0, 0.0], [0.0, 1.0]]), np.eye(2)
    >>> found = neighbours.search(query, ["a", "a"], gallery, ["a", "b"], ["1", "2"], ["3", "4"], 1)
    >>> neighbours.confusions(found, query, ["a", "a"], gallery, ["a", "b"])
    [Confusion(identity='a', other='b', taken=1, queries=2, similarity=0.5)]
    """
    names, asked, own = _means(query, query_ids)
    others, known, theirs = _means(gallery, gallery_ids)
    first = np.asarray(gallery_ids)[found.rows[:, 0]]
    strayed = (first != np.asarray(query_ids)) & ~np.isnan(found.similarity[:, 0])
    place = {name: code for code, name in enumerate(others.tolist())}
    codes = np.searchsorted(names, np.asarray(query_ids)[strayed]).tolist()
    taken = collections.Counter(zip(codes, (place[name] for name in first[strayed].tolist()), strict=True))
    pairs = [pair for pair, _ in taken.most_common(most)]
    pairs += [pair for pair in _alike(own, names, theirs, others, most) if pair not in pairs]
    told = [
        Confusion(str(names[a]), str(others[b]), taken[a, b], int(asked[a]), float(own[a] @ theirs[b]))
        for a, b in pairs
    ]
    return sorted(told, key=lambda one: (-one.taken, -one.similarity))


def _means(embedding: np.ndarray, ids: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identities, how many images each has, and the mean of their embeddings."""
    names, codes, counts = np.unique(np.asarray(ids), return_inverse=True, return_counts=True)
    total = np.zeros((len(names), np.asarray(embedding).shape[1]))
    np.add.at(total, codes, retrieval.unit("embedding", embedding, ids))
    return names, counts, total / counts[:, None]


def _alike(own, names, theirs, others, most: int) -> list[tuple[int, int]]:
    """Pairs of different identities whose means are most alike, a chunk of identities at a time."""
    best: list[tuple[float, int, int]] = []
    step = max(1, _CELLS // max(1, len(others)))
    for begin in range(0, len(names), step):
        similarity = own[begin : begin + step] @ theirs.T
        similarity[names[begin : begin + step, None] == others] = -np.inf
        flat = np.argsort(-similarity, axis=None, kind="stable")[:most]
        rows, columns = np.unravel_index(flat, similarity.shape)
        values = similarity.ravel()[flat]
        best += [(-v, begin + int(a), int(b)) for v, a, b in zip(values, rows, columns, strict=True) if np.isfinite(v)]
    return [(a, b) for _, a, b in sorted(best)[:most]]

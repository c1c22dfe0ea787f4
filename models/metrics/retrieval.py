"""How good a model is at "who is this": CMC, mAP and mINP of queries ranked against a gallery."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models.metrics import metric

# Cosines closer than this are one cosine: float32 products differ by about as much with the block a
# row falls in, and a collapsed model must score as the tie it is, not as its rounding noise.
TIE = 1e-6

# Similarities held at once: 16 Mi float32, 64 MiB.
_CHUNK_CELLS = 1 << 24

Ranking = Callable[[np.ndarray, np.ndarray, bool], Iterator[tuple[int, np.ndarray]]]


def evaluate_retrieval(
    query: np.ndarray,
    query_ids: Sequence | np.ndarray,
    gallery: np.ndarray,
    gallery_ids: Sequence | np.ndarray,
    *,
    query_cameras: Sequence[int] | None = None,
    gallery_cameras: Sequence[int] | None = None,
    query_files: Sequence | None = None,
    gallery_files: Sequence | None = None,
    exclude_self: bool = False,
    slices: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Ranks the gallery for every query and averages over the queries that have a match.

    See `score_queries` for the ranking, its arguments and its errors.

    Args:
      slices: name -> bool [Q]: queries to be averaged by themselves too. The gallery stays whole.

    Returns:
      `metric.summarise`'s values, `gallery` (its size), and `slices`: name -> the same values.

    Raises:
      errors.WorkError: no query has a match in the gallery.

    Example: one query finds its own at once, the other at the second rank.

    >>> gallery = [[1.0, 0.0], [0.0, 1.0]]
    >>> found = retrieval.evaluate_retrieval([[1.0, 0.0], [1.0, 0.0]], ["a", "b"], gallery, ["a", "b"])
    >>> found["mAP"], found["rank1"], found["rank5"]  # (1/1 + 1/2) / 2, 1/2 and 1
    (0.75, 0.5, 1.0)
    """
    scores = score_queries(
        query,
        query_ids,
        gallery,
        gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
        query_files=query_files,
        gallery_files=gallery_files,
        exclude_self=exclude_self,
    )
    return averages(scores, len(gallery), slices)


def averages(
    scores: metric.QueryScores, gallery: int, slices: Mapping[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Averages over the queries that have a match.

    Args:
      scores: of `score_queries`.
      gallery: how many images were ranked.
      slices: name -> bool [Q]: queries to be averaged by themselves too.

    Returns:
      As `evaluate_retrieval`.

    Raises:
      errors.WorkError: no query has a match in the gallery.

    Example:

    >>> retrieval.averages(retrieval.score_queries([[1.0, 0.0]], ["a"], np.eye(2), ["a", "b"]), gallery=2)["mAP"]
    1.0
    """
    overall = metric.summarise(scores)
    if not overall["queries"]:
        raise errors.WorkError(
            f"none of {len(scores.first)} queries has a match among {gallery} gallery images: "
            "give each identity an image in both, seen by two cameras where cameras are crossed"
        )
    named = {name: metric.summarise(scores, mask) for name, mask in (slices or {}).items()}
    return {**overall, "gallery": gallery, "slices": named}


def score_queries(
    query: np.ndarray,
    query_ids: Sequence | np.ndarray,
    gallery: np.ndarray,
    gallery_ids: Sequence | np.ndarray,
    *,
    query_cameras: Sequence[int] | None = None,
    gallery_cameras: Sequence[int] | None = None,
    query_files: Sequence | None = None,
    gallery_files: Sequence | None = None,
    exclude_self: bool = False,
    ranking: Ranking | None = None,
) -> metric.QueryScores:
    """Ranks the gallery by cosine for every query, a row a query for paired tests.

    A right answer's rank counts the wrong ones that are as similar or more (ties, to 1e-6, are
    lost: a model that maps everything to one point scores worst, not best). Average precision is
    the mean over right answers of the precision at their rank, without interpolation. INP is that
    precision at the last of them (Ye et al., Deep Learning for Person Re-identification, 2021). R-precision and MAP@R
    look at the first R answers only, R being the number of right ones (Musgrave et al., A Metric Learning Reality
    Check, 2020).

    Only the wrong answers above a query's worst right one are ever sorted; memory is a chunk of
    queries times the gallery, at most 64 MiB or one row.

    Args:
      query: float [Q, d], any length but zero; normalised here in float32.
      query_ids: [Q] identities: integers, str or bytes.
      gallery: float [G, d].
      gallery_ids: [G] identities, of the same kind.
      query_cameras: int [Q]. With `gallery_cameras`: images of the query's identity by the
        query's camera are neither right nor wrong, as in Market-1501's protocol.
      gallery_cameras: int [G].
      query_files: [Q] digests. With `gallery_files`: images of the query's identity that are its own file, byte for
        byte, are neither right nor wrong, whatever camera they are said to be of.
      gallery_files: [G] digests, of the same kind.
      exclude_self: gallery and queries are the same images in the same order, and each query is
        left out of its own gallery.
      ranking: how near is told instead of the cosine, such as `reranking.KReciprocal`: from query and gallery at
        length 1, and `exclude_self`, it yields each query's row and float32 [G], larger where nearer, to be written to.

    Raises:
      ValueError: shapes do not fit, one side's cameras or files are missing, or a value is not finite.

    Example: the right answer ties with a wrong one, and ties are lost.

    >>> retrieval.score_queries([[1.0, 0.0]], ["a"], [[1.0, 0.0], [2.0, 0.0]], ["a", "b"]).first
    array([2])
    """
    query, gallery = unit("query", query, query_ids), unit("gallery", gallery, gallery_ids)
    kept_apart = {"cameras": (query_cameras, gallery_cameras), "files": (query_files, gallery_files)}
    _check(query, gallery, kept_apart, exclude_self)
    identity, gallery_identity = _dense_codes(query_ids, gallery_ids)
    apart = [_dense_codes(one, other) for one, other in kept_apart.values() if one is not None and other is not None]
    by_identity = np.argsort(gallery_identity, kind="stable")
    bounds = np.searchsorted(gallery_identity[by_identity], np.arange(identity.max(initial=-1) + 2))

    matches, first = np.zeros(len(query), np.int64), np.zeros(len(query), np.int64)
    precision, penalty, r_precision, precision_at_r = np.full((4, len(query)), np.nan)
    for row, similarity in (ranking or _similarities)(query, gallery, exclude_self):
        same = by_identity[bounds[identity[row]] : bounds[identity[row] + 1]]
        right = np.ones(len(same), bool)
        if exclude_self:
            right &= same != row
        for own, theirs in apart:
            right &= theirs[same] != own[row]
        if not right.any():
            continue
        rank = _ranks(similarity, same, same[right])
        count = len(rank)
        matches[row], first[row] = count, rank[0]
        at_each = np.arange(1, count + 1) / rank
        precision[row] = np.mean(at_each)
        penalty[row] = count / rank[-1]
        within = int(np.searchsorted(rank, count, side="right"))
        r_precision[row], precision_at_r[row] = within / count, at_each[:within].sum() / count
    return metric.QueryScores(identity, matches, first, precision, penalty, r_precision, precision_at_r)


def distinct(ids: Sequence | np.ndarray, files: Sequence | np.ndarray) -> np.ndarray:
    """bool [N]: the first of the images of an identity that are the same file: copies count once.

    Args:
      ids: [N] identities.
      files: [N] digests of the files.

    Example:

    >>> retrieval.distinct(["a", "a", "b"], ["x", "x", "x"]).tolist()
    [True, False, True]
    """
    first = np.zeros(len(ids), bool)
    codes = np.stack([np.unique(np.asarray(one), return_inverse=True)[1] for one in (ids, files)], axis=1)
    first[np.unique(codes, axis=0, return_index=True)[1]] = True
    return first


def identity_precision(scores: metric.QueryScores) -> np.ndarray:
    """Mean average precision of each identity, for tests paired by identity: float64 [identities].

    Entry c belongs to dense code c (identities in sorted order, the gallery's among them, as far as
    the last that a query has); NaN where none of an identity's queries has a match.

    Example: two queries of "b", one of which finds its own at once and the other at the second rank; none of "a".

    >>> queries, gallery = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]
    >>> retrieval.identity_precision(retrieval.score_queries(queries, ["b", "b"], gallery, ["a", "b"]))
    array([ nan, 0.75])
    """
    size = scores.identity.max(initial=-1) + 1
    scored = scores.matches > 0
    codes = scores.identity[scored]
    count = np.bincount(codes, minlength=size)
    total = np.bincount(codes, scores.average_precision[scored], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _ranks(similarity: np.ndarray, same: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Ranks from 1, ascending, of the gallery rows `right`. Overwrites `similarity` at `same`."""
    bar = np.sort(similarity[right]) - np.float32(TIE)
    similarity[same] = -np.inf
    rivals = similarity[similarity >= bar[0]]
    passed = np.searchsorted(bar, rivals, side="right")
    ahead = len(rivals) - np.cumsum(np.bincount(passed, minlength=len(bar) + 1))[:-1]
    return (ahead + np.arange(len(bar), 0, -1))[::-1]


def _similarities(
    query: np.ndarray, gallery: np.ndarray, exclude_self: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (query's row, its similarities [G]); the array may be overwritten by the caller."""
    chunk = max(1, _CHUNK_CELLS // max(1, len(gallery)))
    for begin in range(0, len(query), chunk):
        block = query[begin : begin + chunk] @ gallery.T
        for offset, similarity in enumerate(block):
            yield begin + offset, similarity


def unit(name: str, embedding: np.ndarray, ids: Sequence | np.ndarray) -> np.ndarray:
    """Embeddings at length 1, float32 [N, d]; zeros stay zeros.

    Args:
      name: of `embedding`, for the message.
      embedding: float [N, d].
      ids: [N], of whatever kind.

    Raises:
      ValueError: shapes do not fit, or a value is not finite.

    Example:

    >>> retrieval.unit("query", [[3.0, 4.0]], ["a"])
    array([[0.6, 0.8]], dtype=float32)
    """
    embedding = np.asarray(embedding, np.float32)
    if embedding.ndim != 2 or len(embedding) != len(ids):
        raise ValueError(
            f"`{name}` must be [N, d] with one identity a row. "
            f"Received: shape {embedding.shape} and {len(ids)} identities"
        )
    broken = len(embedding) - int(np.isfinite(embedding).all(axis=1).sum())
    if broken:
        raise ValueError(f"`{name}` must be finite. Received: {broken} rows that are not")
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    return embedding / np.maximum(length, np.finfo(np.float32).tiny)


def _check(query, gallery, kept_apart, exclude_self) -> None:
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            "`query` and `gallery` must have the same dimension. "
            f"Received: {query.shape[1]} and {gallery.shape[1]}"
        )
    if exclude_self and len(query) != len(gallery):
        raise ValueError(
            "`exclude_self` needs the queries as gallery. "
            f"Received: {len(query)} queries and {len(gallery)} gallery images"
        )
    for name, both in kept_apart.items():
        if (both[0] is None) != (both[1] is None):
            raise ValueError(f"`query_{name}` and `gallery_{name}` must be given together")
        for side, given, images in zip(("query", "gallery"), both, (query, gallery), strict=True):
            if given is not None and len(given) != len(images):
                raise ValueError(
                    f"`{side}_{name}` must have one of the {name} an image, {len(images)}. Received: {len(given)}"
                )


def _dense_codes(query_ids: Sequence | np.ndarray, gallery_ids: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.concatenate([np.asarray(query_ids), np.asarray(gallery_ids)])
    codes = np.unique(both, return_inverse=True)[1]
    return codes[: len(query_ids)], codes[len(query_ids) :]

"""What a model scores on the eval images: retrieval over all, head and tail, and the thresholds of its similarities."""

import collections
import dataclasses
from typing import Any
from typing import NamedTuple

import numpy as np

from longtail.components.data import features
from longtail.components.retrieval_evaluator import pixels as pixels_lib
from longtail.models import errors
from longtail.models import head_tail
from longtail.models.metrics import bootstrap
from longtail.models.metrics import calibration
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval

_DRAWS = 500  # of an interval


@dataclasses.dataclass(frozen=True)
class EvalRows:
    """What is known of each eval image but its pixels, in the order of the files."""

    identity: np.ndarray  # bytes [N]
    digest: np.ndarray  # bytes [N], sha256 of the file
    camera: np.ndarray  # int64 [N]
    split: np.ndarray  # bytes [N], query or gallery
    span: np.ndarray  # int64 [N], that it came with


class Embedded(NamedTuple):
    """A model's embeddings float32 [N, d] of all eval images, and which of them are any: bool [N]."""

    vectors: np.ndarray
    usable: np.ndarray


class Scored(NamedTuple):
    """A model's figures over the eval images: overall and by slice; and what became of each query.

    `query` and `gallery`, int64, are the rows that were ranked against each other, `query` in the order of `queries`.
    """

    figures: dict[str, Any]
    queries: metric.QueryScores
    query: np.ndarray
    gallery: np.ndarray


def score(
    embedded: Embedded, usable: np.ndarray, rows: EvalRows, protocol: protocols.Protocol, head_threshold: int
) -> Scored:
    """Retrieval over the `usable` images, bool [N], overall and by slice; `undecodable` counts what is not embedded.

    Raises:
      errors.WorkError: no query has a match.
    """
    everyone, crossed = not protocol.divided, protocol.cross_camera
    query = usable & (everyone | (rows.split == features.QUERY))
    gallery = usable & (everyone | (rows.split == features.GALLERY))
    for images in (query, gallery):  # copies of a file count once
        images[images] = retrieval.distinct(rows.identity[images], rows.digest[images])
    queries = retrieval.score_queries(
        embedded.vectors[query],
        rows.identity[query],
        embedded.vectors[gallery],
        rows.identity[gallery],
        query_cameras=rows.camera[query] if crossed else None,
        gallery_cameras=rows.camera[gallery] if crossed else None,
        query_files=rows.digest[query],
        gallery_files=rows.digest[gallery],
        exclude_self=everyone,
    )
    counts = _images(rows)[query]
    head = head_tail.is_head(counts, head_threshold)
    named = {"head": head, "tail": ~head, **head_tail.bins(counts)}
    figures = retrieval.averages(queries, int(gallery.sum()), named)
    slices, missing = figures.pop("slices"), int((~embedded.usable).sum())
    for name, mask in named.items():
        slices[name]["mAP_interval"] = _interval(queries, mask)
    overall = {"mAP_interval": _interval(queries), "images": len(usable), "undecodable": missing}
    return Scored({**figures, **slices, **overall}, queries, np.flatnonzero(query), np.flatnonzero(gallery))


def _interval(queries: metric.QueryScores, mask: np.ndarray | bool = True) -> tuple[float, float] | None:
    """Of the mAP of some queries, 95 % by a bootstrap over identities; None where none is scored."""
    scored = mask & (queries.matches > 0)
    if not scored.any():
        return None
    codes = np.unique(queries.identity[scored], return_inverse=True)[1]
    asked = np.bincount(codes)
    precision = np.bincount(codes, queries.average_precision[scored]) / asked
    return bootstrap.interval(precision[None], asked, draws=_DRAWS)


def _images(rows: EvalRows) -> np.ndarray:
    """Distinct images of each image's identity, int64 [N]: the same file twice is one, as it is in training."""
    names = rows.identity.tolist()
    images = collections.Counter(name for name, _ in set(zip(names, rows.digest.tolist(), strict=True)))
    return np.array([images[name] for name in names], np.int64)


def score_pixels(
    pictures: Embedded, usable: np.ndarray, rows: EvalRows, protocol: protocols.Protocol, head_threshold: int
) -> tuple[Scored, Embedded] | None:
    """The better one of two trivial embeddings, its name among its figures as `embedding`.

    None where not all `usable` images are pictures that TensorFlow decodes.
    """
    if not pictures.usable[usable].all():
        return None
    best: tuple[Scored, Embedded] | None = None
    for name, vectors in pixels_lib.embeddings(pictures.vectors[usable]).items():
        whole = np.zeros((len(usable), vectors.shape[1]), np.float32)
        whole[usable] = vectors
        embedded = Embedded(whole, pictures.usable)
        found = score(embedded, usable, rows, protocol, head_threshold)
        if best is None or found.figures["mAP"] > best[0].figures["mAP"]:
            best = (found._replace(figures={"embedding": name, **found.figures}), embedded)
    return best


def thresholds(embedded: Embedded, rows: EvalRows) -> tuple[dict[str, Any], list[str]]:
    """What `calibration.calibrate` finds on all images that are embedded, and what to warn of where that is nothing."""
    usable = embedded.usable
    try:
        found = calibration.calibrate(embedded.vectors[usable], rows.identity[usable], rows.digest[usable])
    except errors.WorkError as error:
        return {"thresholds": []}, [f"no thresholds for verifying: {error}"]
    if found["thresholds"]:
        return found, []
    return found, [f"no thresholds for verifying: {found['different']} pairs of different identities support no rate"]

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
from longtail.models.metrics import calibration
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval


@dataclasses.dataclass(frozen=True)
class EvalRows:
    """What is known of each eval image but its pixels, in the order of the files."""

    identity: np.ndarray  # bytes [N]
    digest: np.ndarray  # bytes [N], sha256 of the file
    camera: np.ndarray  # int64 [N]
    split: np.ndarray  # bytes [N], query or gallery


class Embedded(NamedTuple):
    """A model's embeddings float32 [N, d] of all eval images, and which of them are any: bool [N]."""

    vectors: np.ndarray
    usable: np.ndarray


class Scored(NamedTuple):
    """A model's figures over the eval images: overall and by slice; and what became of each query."""

    figures: dict[str, Any]
    queries: metric.QueryScores


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
    return Scored({**figures, **slices, "images": len(usable), "undecodable": missing}, queries)


def _images(rows: EvalRows) -> np.ndarray:
    """Distinct images of each image's identity, int64 [N]: the same file twice is one, as it is in training."""
    names = rows.identity.tolist()
    images = collections.Counter(name for name, _ in set(zip(names, rows.digest.tolist(), strict=True)))
    return np.array([images[name] for name in names], np.int64)


def score_pixels(
    pictures: Embedded, usable: np.ndarray, rows: EvalRows, protocol: protocols.Protocol, head_threshold: int
) -> dict[str, Any] | None:
    """Figures of the better one of two trivial embeddings, with its name as `embedding`.

    None where not all `usable` images are pictures that TensorFlow decodes.
    """
    if not pictures.usable[usable].all():
        return None
    best: dict[str, Any] = {}
    for name, vectors in pixels_lib.embeddings(pictures.vectors[usable]).items():
        whole = np.zeros((len(usable), vectors.shape[1]), np.float32)
        whole[usable] = vectors
        found = score(Embedded(whole, pictures.usable), usable, rows, protocol, head_threshold).figures
        if not best or found["mAP"] > best["mAP"]:
            best = {"embedding": name, **found}
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

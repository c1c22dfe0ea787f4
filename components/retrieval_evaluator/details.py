"""What a report shows of a scored model beyond its figures: curves, the best and the worst, some images and a map."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from longtail.components.data import features
from longtail.components.data import images as images_lib
from longtail.components.retrieval_evaluator import scoring
from longtail.models import errors
from longtail.models.metrics import comparisons
from longtail.models.metrics import neighbour_map
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval
from longtail.models.metrics import verification

DETAILS_FILE = "details.json"

COMPARED = 5000  # images at most that curves are drawn of: 12 million pairs
MAPPED = 300  # images of the map
_MAPPED_EACH = 10  # of an identity
IDENTITIES, QUERIES, NEAREST = 10, 12, 6  # that are shown
_BUCKETS = 50
_SMALL = 64  # pixels of an image of the map
_NAMES = {"path": features.PATH, "identity": features.IDENTITY}


def details(
    scored: dict[str, scoring.Scored],
    embedded: dict[str, scoring.Embedded],
    usable: np.ndarray,
    rows: scoring.EvalRows,
    protocol: protocols.Protocol,
) -> dict[str, Any]:
    """All but the pictures themselves; what it names of the images, by their rows, is to be shown.

    Args:
      scored: of the model `candidate`, and of others by name.
      embedded: of the same models.
      usable: bool [N], images that are scored.
      rows: of all images.
      protocol: by which they were scored.

    Returns:
      `curves` (by model, see `_curve`; a model without pairs of both kinds has none), `identities` and `queries` (best
      and worst), and `map`: rows and their places from 0 to 1.
    """
    taken = _whole_identities(rows, usable, COMPARED)
    curves = {name: _curve(each.vectors[taken], rows.identity[taken]) for name, each in embedded.items()}
    candidate, vectors = scored["candidate"], embedded["candidate"].vectors
    return {
        "curves": {name: curve for name, curve in curves.items() if curve},
        "compared": len(taken),
        "identities": _identities(candidate, rows),
        "queries": _worst_queries(candidate, vectors, rows, protocol),
        "map": _map(vectors, rows, usable),
    }


def _whole_identities(rows: scoring.EvalRows, usable: np.ndarray, most: int, each: int = 0) -> np.ndarray:
    """Rows of about `most` images, identity by identity in an order by hash; each file of an identity once.

    Args:
      rows: of all images.
      usable: bool [N], which may be taken.
      most: images.
      each: most images of one identity; 0: all.
    """
    found = np.flatnonzero(usable)
    found = found[retrieval.distinct(rows.identity[found], rows.digest[found])]
    names, codes = np.unique(rows.identity[found], return_inverse=True)
    place = np.argsort(np.argsort([hashlib.sha256(name).digest() for name in names.tolist()]))[codes]
    order = np.argsort(place, kind="stable")
    found, place = found[order], place[order]
    if each:
        begins = np.searchsorted(place, place)
        kept = np.arange(len(place)) - begins < each
        found, place = found[kept], place[kept]
    if len(found) <= most:
        return found
    return found[: max(most, 1)] if place[0] == place[most] else found[: np.searchsorted(place, place[most])]


def _curve(vectors: np.ndarray, identity: np.ndarray) -> dict[str, Any] | None:
    """The ROC as `points` [FPR, TPR], and shares of the pairs by similarity: `ends`, and `same` and `different`."""
    try:
        curve = verification.measure(comparisons.AllPairs(vectors, identity))
    except errors.WorkError:
        return None  # nothing to compare; the evaluator warns of it, since there are no thresholds either
    similarity = (curve.bins - 0.5) * retrieval.TIE - 1.0
    ends = np.linspace(similarity[-1], max(similarity[0], similarity[-1] + retrieval.TIE), _BUCKETS + 1)
    counts = [np.histogram(similarity, ends, weights=np.diff(one, prepend=0))[0] for one in (curve.true, curve.false)]
    return {
        "points": curve.points(),
        "auc": curve.auc(),
        "eer": curve.equal_error()[0],
        "pairs": {"same": curve.same, "different": curve.different},
        "ends": ends.tolist(),
        "same": (counts[0] / curve.same).tolist(),
        "different": (counts[1] / curve.different).tolist(),
    }


def _identities(scored: scoring.Scored, rows: scoring.EvalRows) -> dict[str, Any]:
    """The worst and the best by mean average precision, each with one of its images."""
    precision = retrieval.identity_precision(scored.queries)
    codes = scored.queries.identity
    known = np.flatnonzero(~np.isnan(precision))
    order = known[np.argsort(precision[known], kind="stable")]

    def told(code: int) -> dict[str, Any]:
        own = scored.query[codes == code]
        name = rows.identity[own[0]].decode(errors="surrogateescape")
        return {"identity": name, "mAP": float(precision[code]), "queries": len(own), "row": int(own[0])}

    worst = order[:IDENTITIES]
    best = order[len(worst) :][::-1][:IDENTITIES]  # nobody stands in both
    return {"scored": len(known), "worst": [told(code) for code in worst], "best": [told(code) for code in best]}


def _worst_queries(
    scored: scoring.Scored, vectors: np.ndarray, rows: scoring.EvalRows, protocol: protocols.Protocol
) -> list[dict[str, Any]]:
    """Queries of the lowest average precision, one of an identity, with their nearest in the gallery."""
    queries = scored.queries
    order = np.argsort(np.where(queries.matches > 0, queries.average_precision, np.inf), kind="stable")
    order = order[queries.matches[order] > 0]
    first = np.sort(np.unique(queries.identity[order], return_index=True)[1])[:QUERIES]
    found = []
    for place in order[first]:
        row = scored.query[place]
        near = [
            {"row": int(other), "similarity": similarity, "right": bool(rows.identity[other] == rows.identity[row])}
            for other, similarity in _nearest(row, scored.gallery, vectors, rows, protocol)
        ]
        at = {"row": int(row), "precision": float(queries.average_precision[place]), "first": int(queries.first[place])}
        found.append({**at, "nearest": near})
    return found


def _nearest(row, gallery: np.ndarray, vectors: np.ndarray, rows: scoring.EvalRows, protocol: protocols.Protocol):
    """(row, similarity) of what a query finds, as it is ranked: without itself, its copies and its own camera."""
    own = rows.identity[gallery] == rows.identity[row]
    apart = (gallery == row) | (own & (rows.digest[gallery] == rows.digest[row]))
    if protocol.cross_camera:
        apart |= own & (rows.camera[gallery] == rows.camera[row])
    others = gallery[~apart]
    query = retrieval.unit("query", vectors[[row]], [0])[0]
    similarity = retrieval.unit("gallery", vectors[others], others) @ query
    order = np.argsort(-similarity, kind="stable")[:NEAREST]
    return zip(others[order].tolist(), similarity[order].tolist(), strict=True)


def _map(vectors: np.ndarray, rows: scoring.EvalRows, usable: np.ndarray) -> list[dict[str, Any]]:
    taken = _whole_identities(rows, usable, MAPPED, _MAPPED_EACH)
    places = neighbour_map.tsne(vectors[taken])
    return [{"row": int(row), "x": float(x), "y": float(y)} for row, (x, y) in zip(taken, places, strict=True)]


def pictures(told: dict[str, Any], examples: Iterable[Any]) -> dict[str, dict[str, str]]:
    """The images that `details` names: row -> `path`, `identity`, and `png` in base64, "" of what is no picture.

    Args:
      told: what `details` returned.
      examples: all tf.Examples, in the order of the rows; streamed.
    """
    shown = {one["row"] for query in told["queries"] for one in (query, *query["nearest"])}
    shown |= {one["row"] for side in ("worst", "best") for one in told["identities"][side]}
    small = {one["row"] for one in told["map"]} - shown
    found = {}
    for row, example in enumerate(examples):
        if row in shown or row in small:
            feature = example.features.feature
            size = images_lib.THUMBNAIL if row in shown else _SMALL
            found[str(row)] = {
                **{name: _text(feature, key) for name, key in _NAMES.items()},
                "png": images_lib.thumbnail(feature[features.ENCODED].bytes_list.value[0], size),
            }
    return found



def _text(feature: Any, key: str) -> str:
    return b"".join(feature[key].bytes_list.value).decode(errors="surrogateescape")

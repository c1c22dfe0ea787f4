"""What no feature's distribution shows: identities that are gone, shares that have moved, images that came before."""

from typing import Any

import numpy as np

from longtail.components.data import features
from longtail.components.data import tables
from longtail.components.drift import permutation
from longtail.components.drift import rows as rows_lib

GONE = features.GONE
SHARES = features.SHARES
LARGEST = features.LARGEST
REPEATED = features.REPEATED
COPIES = features.COPIES
FOLDERS = features.FOLDERS

# The least distance that is called drift, of each.
FLOORS = {GONE: 0.1, SHARES: 0.05, LARGEST: 0.1, REPEATED: 0.1, COPIES: 0.1, FOLDERS: 0.1}
# Where less of the new images, and of the accepted identities, is in both, each span is taken to bring new identities.
CLOSED = 0.5
RECURRING = 0.2
_SEED = 0


def rows(
    current: tables.Table, baseline: tables.Table, thresholds: dict[str, float], same_span: bool = False
) -> tuple[list[dict[str, Any]], str]:
    """Compares whose images the spans hold, and which.

    Identities and folders are compared of all images. Of tables that hold a part of the images each, repeated images
    and copies are looked for in the part that both would hold.

    Args:
      current: of the new span.
      baseline: of the accepted span.
      thresholds: explicit ones, by feature; the others are beyond what chance does, and beyond `FLOORS`.
      same_span: the new span takes the place of the accepted one: its images may come again.

    Returns:
      The rows, and a note that says what was not asked and why, or "".
    """
    if not len(current.names) or not len(baseline.names):
        return [], ""
    found = _compare_images(current, baseline, thresholds, same_span)
    if current.folders.any() or baseline.folders.any():  # an identity in no folder is in a folder of its own
        share = float(current.counts[~np.isin(current.folders, baseline.folders)].sum() / current.counts.sum())
        found.append(_row(FOLDERS, "share of images", share, thresholds))
    known = float(current.counts[np.isin(current.names, baseline.names)].sum() / current.counts.sum())
    recurring = float(np.isin(baseline.names, current.names).mean())
    if known < CLOSED and recurring < RECURRING:
        return found, (
            f"new identities: who is gone was not asked, since {known:.0%} of the images and {recurring:.0%} of the "
            f"accepted identities are in both spans, less than {CLOSED:.0%} and {RECURRING:.0%}"
        )
    return found + _compare_identities(current, baseline, thresholds), ""


def _compare_images(
    current: tables.Table, baseline: tables.Table, thresholds: dict[str, float], same_span: bool
) -> list[dict[str, Any]]:
    """Rows of files that are there twice."""
    limit = min(current.limit, baseline.limit)
    new, old = current.below(limit).digest, baseline.below(limit).digest
    if not len(new) or not len(old):
        return []
    found = [_row(COPIES, "share of images", max(0.0, _copies(new) - _copies(old)), thresholds)]
    if not same_span:
        found.append(_row(REPEATED, "share of images", float(np.isin(new, old).mean()), thresholds))
    return found


def _compare_identities(new: tables.Table, old: tables.Table, thresholds: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of spans that hold the same identities, beside what the images of both show, dealt anew to two sides.

    Each identity's images are dealt one by one: which of a long tail of identities a span happens to hold is chance.
    """
    names, place = np.unique(np.concatenate([new.names, old.names]), return_inverse=True)
    counts = np.zeros((2, len(names)), np.int64)
    counts[0, place[: len(new.names)]] = new.counts
    counts[1, place[len(new.names) :]] = old.counts
    rng = np.random.default_rng(_SEED)
    pool, images = counts.sum(axis=0), int(counts[0].sum())
    dealt = (rng.multivariate_hypergeometric(pool, images, method="marginals") for _ in range(permutation.DEALS))
    null_distances = np.array([_distances(side, pool - side) for side in dealt])
    measured = ((GONE, "share of identities"), (SHARES, "Jensen-Shannon"), (LARGEST, "share of images"))
    apart = zip(measured, _distances(*counts), null_distances.T, strict=True)
    return [_row(feature, measure, distance, thresholds, drawn) for (feature, measure), distance, drawn in apart]


def _distances(new: np.ndarray, old: np.ndarray) -> tuple[float, float, float]:
    """Of identities with old images: the share with no new one, the others' divergence, the largest tenth's change."""
    new, old = new[old > 0], old[old > 0]
    here = new > 0
    if not here.any():
        return 1.0, 1.0, 1.0
    moved = permutation.divergence(new[here] / new[here].sum(), old[here] / old[here].sum())
    return float(1 - here.mean()), moved, abs(_largest(new) - _largest(old))


def _largest(counts: np.ndarray) -> float:
    """Share of the images that the largest tenth of the identities has."""
    tenth = max(1, len(counts) // 10)
    return float(np.partition(counts, -tenth)[-tenth:].sum() / counts.sum())


def _copies(digest: np.ndarray) -> float:
    """Share of images whose content another image of the same span has already."""
    return 1.0 - len(np.unique(digest)) / len(digest)


def _row(
    feature: str, measure: str, distance: float, thresholds: dict[str, float], null_distances: np.ndarray | None = None
) -> dict[str, Any]:
    default = FLOORS[feature] if null_distances is None else _threshold(feature, null_distances)
    return rows_lib.row(rows_lib.DATA, feature, measure, distance, thresholds.get(feature, default))


def _threshold(feature: str, null_distances: np.ndarray) -> float:
    """What chance reached, and a quarter more; of who is gone no more than as far again as that is from the mean.

    Of a long tail chance leaves a third of the identities out, and hardly more or less: a quarter of that is far.
    """
    floor = FLOORS[feature]
    threshold = permutation.threshold(null_distances, floor, floor)
    if feature != GONE:
        return threshold
    reached = float(null_distances.max())
    return max(floor, min(threshold, reached + max(floor / 2, reached - float(null_distances.mean()))))

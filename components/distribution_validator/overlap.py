"""What no feature's distribution shows: identities that are gone, shares that have moved, images that came before."""

from typing import Any

import numpy as np

from components import chance
from components import samples
from components.drift_gate import findings

GONE = "data/identities_gone"
SHARES = "data/identity_shares"
LARGEST = "data/largest_identities"
REPEATED = "data/repeated_images"
COPIES = "data/copies"
FOLDERS = "data/new_folders"

# The least distance that is called drift, of each.
FLOORS = {GONE: 0.1, SHARES: 0.05, LARGEST: 0.1, REPEATED: 0.1, COPIES: 0.1, FOLDERS: 0.1}
# Below this share of known images spans are taken to bring new identities each, and who is gone is not asked.
CLOSED = 0.5
_SEED = 0


def rows(
    current: samples.Table, baseline: samples.Table, thresholds: dict[str, float], same_span: bool = False
) -> list[dict[str, Any]]:
    """Compares whose images the spans hold, and which.

    Of tables that hold a part of the images each, the part is compared that both would hold.

    Args:
        current: of the new span.
        baseline: of the accepted span.
        thresholds: explicit ones, by feature; the others are beyond what chance does, and beyond `FLOORS`.
        same_span: the new span takes the place of the accepted one: its images may come again.
    """
    limit = min(current.limit, baseline.limit)
    new, old = current.below(limit), baseline.below(limit)
    if not len(new.digest) or not len(old.digest):
        return []
    found = [_row(COPIES, "share of images", max(0.0, _copies(new) - _copies(old)), thresholds)]
    if not same_span:
        again = float(np.isin(new.digest, old.digest).mean())
        found.append(_row(REPEATED, "share of images", again, thresholds))
    if new.folder.all() and old.folder.all():
        unknown = float((~np.isin(new.folder, old.folder)).mean())
        found.append(_row(FOLDERS, "share of images", unknown, thresholds))
    if float(np.isin(new.identity, old.identity).mean()) >= CLOSED:
        found += _compare_identities(new, old, thresholds)
    return found


def _compare_identities(new: samples.Table, old: samples.Table, thresholds: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of spans that hold the same identities, beside what as many images drawn at random would show."""
    names, expected = np.unique(old.identity, return_counts=True)
    known = new.identity[np.isin(new.identity, names)]
    counts = np.bincount(np.searchsorted(names, known), minlength=len(names))
    rng = np.random.default_rng(_SEED)
    shares = expected / expected.sum()
    drawn = rng.multinomial(len(known), shares, size=chance.DEALS)
    absent = (drawn == 0).mean(axis=1)
    gone = _row(GONE, "share of identities", float((counts == 0).mean()), thresholds, absent)
    # Both sides are draws: the accepted span's own shares are no truer than the new one's.
    drawn_too = rng.multinomial(len(old.identity), shares, size=chance.DEALS)
    here = counts > 0
    by_chance = [_shares_moved(one[here], two[here]) for one, two in zip(drawn, drawn_too, strict=True)]
    moved = _row(SHARES, "Jensen-Shannon", _shares_moved(counts[here], expected[here]), thresholds, np.array(by_chance))
    largest = np.array([abs(_largest(one) - _largest(expected)) for one in drawn])
    change = abs(_largest(counts) - _largest(expected))
    return [gone, moved, _row(LARGEST, "share of images", change, thresholds, largest)]


def _largest(counts: np.ndarray) -> float:
    """Share of the images that the largest tenth of the identities has."""
    return float(np.sort(counts)[-max(1, len(counts) // 10) :].sum() / counts.sum())


def _shares_moved(counts: np.ndarray, expected: np.ndarray) -> float:
    """Divergence of two sides' shares of the identities."""
    if not counts.sum() or not expected.sum():
        return 1.0
    return chance.divergence(counts / counts.sum(), expected / expected.sum())


def _copies(table: samples.Table) -> float:
    """Share of images whose content another image of the same span has already."""
    return 1.0 - len(np.unique(table.digest)) / len(table.digest)


def _row(
    feature: str, measure: str, distance: float, thresholds: dict[str, float], by_chance: np.ndarray | tuple = ()
) -> dict[str, Any]:
    if feature in thresholds:
        threshold = thresholds[feature]
    else:
        threshold = chance.threshold(np.asarray(by_chance), FLOORS[feature])
    return findings.row(findings.DATA, feature, measure, distance, threshold)

"""Overlap finds identities gone, shares moved and images that came before; and leaves chance alone."""

import numpy as np
import pytest

from longtail.components.data import tables
from longtail.components.drift import overlap
from longtail.components.drift import rows as rows_lib
from tests.components.drift import spans


def _rows(current, baseline, **more):
    """Feature -> row."""
    return {row["feature"]: row for row in overlap.rows(current, baseline, {}, **more)[0]}


ACCEPTED = spans.table(range(60), 5)
INJECTED = {
    overlap.GONE: (spans.table(range(45), 5, 1000), ACCEPTED),
    overlap.SHARES: (
        spans.joined(spans.table(range(300), 15, 1e5), spans.table(range(15), 75, 2e5)),
        spans.table(range(300), 20),
    ),
    overlap.LARGEST: (
        spans.joined(spans.table(range(300), 4, 1e5), spans.table(range(25), 12, 2e5)),
        spans.table(range(300), 5),
    ),
    overlap.REPEATED: (spans.joined(spans.table(range(45), 5, 1000), spans.table(range(45, 60), 5, 225)), ACCEPTED),
    overlap.COPIES: (spans.joined(spans.table(range(60), 5, 1000), spans.table(range(15), 5, 1000)), ACCEPTED),
    overlap.FOLDERS: (
        spans.joined(spans.table(range(45), 5, 1000, folder=1), spans.table(range(90, 105), 5, 2000, folder=2)),
        spans.table(range(60), 5, folder=1),
    ),
}


@pytest.mark.parametrize("feature", INJECTED)
def test_a_quarter_of_a_span_planted_is_found(feature):
    rows = _rows(*INJECTED[feature])
    assert rows[feature]["verdict"] == rows_lib.DRIFTED and rows[feature]["kind"] == rows_lib.DATA


@pytest.mark.parametrize(
    "current",
    [spans.table(range(60), 5, 1000), spans.table(range(100, 160), 5, 1000), spans.table(range(60), 1, 1000)],
    ids=["new images", "new identities", "one image each"],
)
def test_clean_spans_are_no_drift_as_a_whole(current):
    assert not [row for row in _rows(current, ACCEPTED).values() if row["verdict"] != rows_lib.OK]


def test_images_drawn_at_random_leave_identities_out_by_chance():
    chosen = np.random.default_rng(0).permutation(300)[:60]
    few = tables.Table(*(getattr(ACCEPTED, name)[chosen] for name in ("identity", "folder", "digest", "values")))
    rows = _rows(few, ACCEPTED, same_span=True)
    assert rows[overlap.GONE]["distance"] > 0.2 and rows[overlap.GONE]["verdict"] == rows_lib.OK


def test_the_span_that_takes_its_own_place_may_bring_its_images_again():
    assert overlap.REPEATED not in _rows(ACCEPTED, ACCEPTED, same_span=True)


def test_tables_of_parts_are_compared_where_both_would_hold_an_image():
    half = ACCEPTED.below(np.uint64(149))
    rows = _rows(ACCEPTED, half)
    assert rows[overlap.REPEATED]["distance"] == 1.0


def _drawn(seed, share):
    """A Table of one image for each identity drawn, all images different."""
    drawn = np.random.default_rng(seed).choice(len(share), 3000, p=share / share.sum())
    return spans.table(drawn, 1, 10_000 * (seed + 1))


@pytest.mark.parametrize("seed", range(3))
def test_two_draws_of_one_long_tail_are_no_drift(seed):
    share = 1 / np.arange(1.0, 1001)
    rows = _rows(_drawn(seed, share), _drawn(seed + 10, share))
    assert rows[overlap.GONE]["distance"] > 0.2
    assert {row["verdict"] for row in rows.values()} == {rows_lib.OK}


def test_half_of_a_long_tail_gone_is_found():
    share = 1 / np.arange(1.0, 1001)
    rows = _rows(_drawn(0, share * (np.arange(1000) % 2)), _drawn(1, share))
    assert rows[overlap.GONE]["verdict"] == rows_lib.DRIFTED


def test_one_image_in_no_folder_does_not_hide_new_folders():
    new = spans.joined(spans.table(range(90, 150), 5, 1000, folder=2), spans.table([200], 1, 2000))
    rows = _rows(new, spans.table(range(60), 5, folder=1))
    assert rows[overlap.FOLDERS]["distance"] == 1.0 and rows[overlap.FOLDERS]["verdict"] == rows_lib.DRIFTED


def test_identities_in_no_folder_on_both_sides_make_no_row_of_folders():
    assert overlap.FOLDERS not in _rows(spans.table(range(60), 5, 1000), ACCEPTED)


def test_many_new_identities_do_not_hide_that_others_are_gone():
    new = spans.joined(spans.table(range(24), 5, 1000), spans.table(range(100, 145), 5, 2000))
    assert _rows(new, ACCEPTED)[overlap.GONE]["verdict"] == rows_lib.DRIFTED


def test_where_identities_are_new_a_note_says_that_nobody_asked_who_is_gone():
    rows, note = overlap.rows(spans.table(range(100, 160), 5, 1000), ACCEPTED, {})
    assert overlap.GONE not in {row["feature"] for row in rows}
    assert "who is gone was not asked" in note and "\n" not in note

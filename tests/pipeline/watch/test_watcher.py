"""A watch takes what is whole, in order, once; and what came of it is written down. Runs are real processes."""

import json
import os
import shutil
import signal

import pytest

from longtail.models import errors
from longtail.pipeline.local import root_folder
from longtail.pipeline.watch import deliveries as deliveries_lib
from longtail.pipeline.watch import journal as journal_lib
from tests.pipeline.watch import conftest


def test_deliveries_are_run_in_order_each_in_a_process_of_its_own(place):
    for span in (10, 2, 1, 3, 9, 4, 5, 6, 7, 8):
        place.deliver(span)
    came = place.watch()
    assert [one.span for one in came] == list(range(1, 11))
    assert {one.outcome for one in came} == {"pushed"} and [one.version for one in came] == list(range(101, 111))
    assert all(one.mAP == 0.5 and one.served == one.version and not one.reason for one in came)
    for one in came:
        with open(one.log) as log:
            assert log.read() == "Trainer ...\n"


def test_a_rejected_delivery_and_the_good_one_after_it_are_both_recorded(place):
    place.deliver(1)
    place.deliver(2, conftest.REFUSED)
    place.deliver(3)
    with pytest.raises(errors.WorkError, match=r"1 of 3 runs pushed nothing: span 2 \(rejected\); watch.jsonl in "):
        place.watch()
    with open(place.root / "watch.jsonl") as file:
        rows = [json.loads(line) for line in file]
    assert [(row["span"], row["outcome"], row["version"]) for row in rows] == [
        (1, "pushed", 101), (2, "rejected", None), (3, "pushed", 103)
    ]  # fmt: skip
    assert rows[1]["reason"] == conftest.REFUSED["error"] and rows[1]["mAP"] is None


@pytest.mark.parametrize(
    "ends, outcome, reason",
    [
        (conftest.NOT_BLESSED, "not blessed", "the model was not blessed, nothing was pushed: mAP 0.2 is below"),
        ({"status": 1, "error": "Trainer: no space"}, "failed", "Trainer: no space"),
        ({"status": 3}, "failed", "exit status 3 without a reason; look at "),
        ({"signal": signal.SIGKILL}, "failed", "ended by SIGKILL; "),
        ({"summary": {"pushed_model": None, "version": None, "reason": "pushed before"}}, "accepted", "pushed before"),
        ({"status": 2, "error": "DELIVERY: not a readable .zip: cut short"}, "failed", "/span-2: not a readable .zip"),
    ],
)
def test_what_came_of_a_run_is_told_by_its_end_and_the_watch_goes_on(place, came, ends, outcome, reason):
    place.deliver(1)
    place.deliver(2, ends)
    place.deliver(3)
    assert came() == [(1, "pushed"), (2, outcome), (3, "pushed")]
    assert reason in place.journal().last()[2].reason


def test_what_every_run_would_be_refused_for_stops_the_watch_with_its_line(place):
    place.deliver(1, {"status": 2, "error": "--set head.skale: no such key"})
    place.deliver(2)
    with pytest.raises(errors.UsageError, match="^--set head.skale: no such key$"):
        place.watch()
    assert not place.journal().entries


def test_a_delivery_without_its_marker_is_not_taken(place, came):
    place.deliver(1, marker="")
    assert came() == [] and "span 1 is there and has no _COMPLETE yet" in place.states
    place.deliver(1)
    assert came() == [(1, "pushed")]


def test_a_delivery_that_grows_between_two_looks_is_not_taken_before_it_is_whole(place):
    path = place.deliver(1, marker="")

    def copy(state):
        if "may still be growing" in state:
            (path / f"{len(place.states)}.png").write_text("more")

    assert place.watch(marker="", said=copy) == []
    assert place.states == ["span 1 is there and may still be growing", "ended: all that was there is done"]
    [one] = place.watch(marker="")
    assert one.outcome == "pushed"


def test_an_empty_folder_is_no_delivery_yet(place):
    (place.folder / "span-1").mkdir(parents=True)
    assert place.watch(marker="") == []


@pytest.mark.parametrize("change", ["size", "time"])
def test_an_archive_is_whole_once_its_size_and_time_stay(place, change):
    place.folder.mkdir()
    archive = place.folder / "span-1.zip"
    archive.write_text("half")

    def copy(state):
        if change == "size":
            archive.write_text("half and more")
        os.utime(archive, ns=(5, 5))

    pattern = place.pattern + ".zip"
    assert place.watch(marker="", said=copy, pattern=pattern) == []
    [one] = place.watch(marker="", pattern=pattern)
    assert one.outcome == "pushed"


def test_the_marker_of_an_archive_lies_behind_its_name(place):
    place.folder.mkdir()
    (place.folder / "span-1.zip").write_text("whole")
    pattern = place.pattern + ".zip"
    assert place.watch(marker=".done", pattern=pattern) == []
    (place.folder / "span-1.zip.done").write_text("")
    assert len(place.watch(marker=".done", pattern=pattern)) == 1


def test_a_gap_is_waited_for_and_said_once(place, came):
    place.deliver(1)
    place.deliver(3)
    place.deliver(4)
    assert came() == [(1, "pushed")]
    said = [state for state in place.states if "waits for" in state]
    assert said == [
        "span 3 is there and waits for span 2, which is not; --skip-gaps goes on without it, --first begins later"
    ]
    place.deliver(2)
    assert came() == [(2, "pushed"), (3, "pushed"), (4, "pushed")]


def test_gaps_are_skipped_where_asked_and_what_comes_late_is_run_late(place, came):
    place.deliver(1)
    place.deliver(3)
    assert came(skip_gaps=True) == [(1, "pushed"), (3, "pushed")]
    place.deliver(2)
    assert came(skip_gaps=True) == [(2, "pushed")]


def test_spans_before_the_first_are_left(place, came):
    place.deliver(1)
    place.deliver(2)
    assert came(first=2) == [(2, "pushed")]


def test_what_is_done_is_not_run_again_whatever_becomes_of_its_delivery(place, came):
    place.deliver(1)
    place.deliver(2, conftest.NOT_BLESSED)
    assert came() == [(1, "pushed"), (2, "not blessed")]
    place.deliver(1, more="changed")
    place.deliver(2, more="changed")
    assert came() == []
    shutil.rmtree(place.folder)
    assert came() == []


def test_a_rejected_delivery_is_run_again_once_it_has_changed(place, came):
    place.deliver(1)
    place.deliver(2, conftest.REFUSED)
    place.deliver(3)
    assert came() == [(1, "pushed"), (2, "rejected"), (3, "pushed")]
    assert came() == []
    place.deliver(2, more="mended")
    assert came() == [(2, "pushed")]


def test_a_failed_run_is_done_again_when_a_watch_begins_anew_and_not_before(place, came):
    place.deliver(1, {"status": 1, "error": "no space"})
    place.deliver(2)
    assert came() == [(1, "failed"), (2, "pushed")]
    assert came() == [(1, "failed")]


def test_numbers_are_read_as_they_are_written(tmp_path):
    for name in ("span-0001", "span-2", "span-0003x", "span-0012", "span-0000", "other"):
        (tmp_path / "a[1]" / name / "b").mkdir(parents=True)
    found = deliveries_lib.Deliveries(str(tmp_path / "a[1]" / "span-{SPAN:04d}" / "b"))
    assert found.spans() == [1, 12] and found.path(12).endswith("/span-0012/b")


@pytest.mark.parametrize(
    "pattern, marker, message",
    [
        ("in/span-1", "", "--data in/span-1: write {SPAN} where a delivery's number stands"),
        ("gs://b/span-{SPAN}", "", "a watch takes folders and archives of this machine"),
        ("glyphs:seed={SPAN}", "", "a watch takes folders and archives of this machine"),
        ("in/span-{SPAN:q}", "", "write {SPAN} or {SPAN:04d}"),
        ("in/span-{SPAN}", "a/b", "--marker a/b: give the name of a file, without a folder"),
    ],
)
def test_a_place_that_cannot_be_watched_is_refused(pattern, marker, message):
    with pytest.raises(errors.UsageError) as refused:
        deliveries_lib.Deliveries(pattern, marker)
    assert message in str(refused.value)


def test_a_journal_that_somebody_damaged_is_named_with_its_row(place):
    place.deliver(1)
    place.watch()
    with open(place.root / "watch.jsonl", "a") as file:
        file.write('{"span": 2}\n')
    with pytest.raises(errors.WorkError, match=r"watch.jsonl: row 2 is no line of a watch \(TypeError.*mend it or re"):
        journal_lib.Journal(str(place.root))


def test_a_run_that_finds_the_root_taken_since_is_begun_again(place, came):
    held = f"--root {place.root}: {root_folder.BUSY}; wait for it or choose another root"
    place.deliver(1, {"status": 2, "error": held, "then": {}})
    assert came() == [(1, "pushed")]

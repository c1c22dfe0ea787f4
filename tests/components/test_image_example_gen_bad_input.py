"""What ImageExampleGen does with files and parameters that are no good."""

import json
import pathlib
import zipfile

import pytest

from longtail.components.data import features
from longtail.components.image_example_gen import steps
from longtail.models import errors
from tests.components import ingestion


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> ingestion.Ingested:
    """40 good images, and one of each bad kind."""
    root = tmp_path_factory.mktemp("damaged")
    folder = ingestion.folder(root / "data", {f"id{number}": 4 for number in range(10)})
    (folder / "id0" / "empty.png").write_bytes(b"")
    (folder / "id1" / "text.jpg").write_bytes(b"no image at all")
    (folder / "id2" / "truncated.png").write_bytes(ingestion.png(0, (90, 90))[:-30])
    (folder / "id3" / "oversized.png").write_bytes(ingestion.png(0, (200, 101)))
    (folder / "loose.png").write_bytes(ingestion.png(0))
    (folder / "id5" / "gone.png").symlink_to("nowhere")
    (folder / "id4" / "notes.txt").write_text("not looked at")
    parameters = {"max_pixels": 20000, "max_quarantine_fraction": 0.2}
    return ingestion.ingest(root, str(folder), **parameters)


@pytest.mark.parametrize(
    "path, reason",
    [
        ("id0/empty.png", "empty file"),
        ("id1/text.jpg", "not an image"),
        ("id2/truncated.png", "not decodable as png"),
        ("id3/oversized.png", "oversized: 200x101 pixels, more than 20000"),
        ("id5/gone.png", "a link to nowhere"),
        ("loose.png", "lies at the top"),
    ],
)
def test_a_bad_file_is_quarantined_with_its_reason(damaged, path, reason):
    assert damaged.bad()[path].startswith(reason)


def test_what_is_no_image_is_listed_beside_the_quarantine(damaged):
    lines = pathlib.Path(damaged.quarantine.uri, "ignored.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "id4/notes.txt", "reason": "not an image by its content"}
    ]
    assert damaged.count("ignored") == 1


def test_a_reason_is_for_people(damaged):
    assert not any(sign in reason for reason in damaged.bad().values() for sign in ("{{", "[Op:", "__wrapped__"))


def test_identities_that_differ_by_case_alone_are_named_in_the_log(tmp_path, caplog):
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys(("Anna", "anna", "b", "c", "d"), 2))
    ingestion.ingest(tmp_path, str(folder))
    assert "identities that differ by letter case alone: Anna, anna; are they one?" in caplog.messages


def test_a_run_goes_on_without_the_bad_files(damaged):
    assert damaged.count("quarantined") == len(damaged.bad()) == 6
    assert damaged.count("images") == 40
    assert len(damaged.rows("train")) + len(damaged.rows("eval")) == 40


def test_more_bad_files_than_allowed_stop_the_run_and_say_what_to_do(tmp_path, caplog):
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys("abcd", 2))
    (folder / "a" / "0.png").write_bytes(b"")
    message = (
        r"1 of 8 files \(12.5%\) are bad, more than max_quarantine_fraction=0.05 allows:"
        r" a/0.png: empty file; mend or remove them \(the log lists all\), or raise the limit"
    )
    with pytest.raises(errors.WorkError, match=message):
        ingestion.ingest(tmp_path, str(folder))
    assert "quarantined a/0.png: empty file" in caplog.messages


def test_a_split_that_lost_all_its_images_stops_the_run(tmp_path):
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys("abcd", 2))
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"")
    with pytest.raises(errors.WorkError, match="none is left for split"):
        ingestion.ingest(tmp_path, str(folder), max_quarantine_fraction=1.0)


def test_a_held_out_identity_that_lost_its_second_image_stops_the_run(tmp_path):
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys("abcd", 2))
    for file in folder.glob("*/0.png"):
        file.write_bytes(b"")
    with pytest.raises(errors.WorkError, match="found 0 among 2, .*; 4 files were set aside, first a/0.png"):
        ingestion.ingest(tmp_path, str(folder), max_quarantine_fraction=0.5)


@pytest.mark.parametrize(
    "counts, message",
    [
        ({"a": 3, "b": 3}, "two identities to train on are needed, found 1"),
        ({"a": 3, "b": 3, "c": 3}, "two held-out identities that can be scored are needed, found 1 among 1"),
        (dict.fromkeys("abcdefgh", 1), "two held-out identities that can be scored are needed, found 0 among"),
    ],
)
def test_too_little_to_train_on_or_to_score_by_is_refused_before_an_image_is_read(tmp_path, counts, message):
    folder = ingestion.folder(tmp_path / "data", counts)
    for file in folder.glob("*/*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(errors.UsageError, match=message):
        ingestion.ingest(tmp_path, str(folder))


def test_images_that_are_lost_on_the_way_stop_the_run(tmp_path, monkeypatch):
    folder = ingestion.folder(tmp_path / "data", {"a": 3, "b": 3, "c": 3, "d": 3})
    monkeypatch.setattr(steps.DivideIdentities, "_divided", lambda self, rows: rows[1:])
    with pytest.raises(errors.WorkError, match=r"split 'train' should have (\d+) images, but \d+ were written"):
        ingestion.ingest(tmp_path, str(folder))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_second_of_two_zip_entries_of_one_path_is_quarantined(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        paths = ["a/1.png", "a/1.png", *(f"{identity}/{number}.png" for identity in "bcd" for number in (1, 2))]
        for grey, path in enumerate([*paths, "a/2.png"]):
            archive.writestr(path, ingestion.png(grey))
    ingested = ingestion.ingest(tmp_path, str(tmp_path / "data.zip"), max_quarantine_fraction=0.5)
    assert ingested.bad() == {"a/1.png": "another file has the same path"}
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    assert {row[features.ENCODED] for row in rows} == {ingestion.png(grey) for grey in range(9)} - {ingestion.png(1)}


def test_a_layout_without_training_images_is_a_usage_error(tmp_path):
    for name in ("query/0007_c3s3_0_00.jpg", "bounding_box_test/0008_c4s3_0_00.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(ingestion.png(100))
    with pytest.raises(errors.UsageError, match="no images for split 'train'"):
        ingestion.ingest(tmp_path / "out", str(tmp_path), layout="market1501")


@pytest.mark.parametrize("where, message", [("missing", "no such folder"), ("one", "one identity")])
def test_a_source_with_nothing_to_work_with_is_a_usage_error(tmp_path, where, message):
    ingestion.folder(tmp_path / "one", {"only": 3})
    with pytest.raises(errors.UsageError, match=message):
        ingestion.ingest(tmp_path / "out", str(tmp_path / where))


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"eval_fraction": 1.0}, "data.eval_fraction must be a number from 0 to 1 other than 0 and 1, not 1.0"),
        ({"query_fraction": 0}, "data.query_fraction must be a number from 0 to 1 other than 0 and 1, not 0.0"),
        ({"max_quarantine_fraction": 2}, "data.max_quarantine_fraction must be a number from 0 to 1, not 2.0"),
        ({"max_pixels": 0}, "data.max_pixels must be a whole number from 1 to 1000000000, not 0"),
        ({"span": 0}, "span must be a whole number from 1 to 1000000000, not 0"),
    ],
)
def test_a_parameter_out_of_range_is_named(tmp_path, parameters, message):
    with pytest.raises(errors.UsageError, match=message):
        ingestion.ingest(tmp_path, ingestion.GLYPHS, **parameters)


def _with_copies(root):
    """Ten identities of three images; in "a" two files are equal, and "b" and "c" share one with each other."""
    folder = ingestion.folder(root / "data", {f"identity {letter}": 3 for letter in "abcdefghij"})
    for number, identity in enumerate(sorted(folder.iterdir())):
        for index in range(3):
            (identity / f"{index}.png").write_bytes(ingestion.png(7 * number + index, (8 + index, 9)))
    equal = {"identity a/3.png": "identity a/0.png", "identity c/3.png": "identity b/0.png"}
    for copy, original in equal.items():
        (folder / copy).write_bytes((folder / original).read_bytes())
    return folder


def test_copies_and_contradictions_are_listed(tmp_path, caplog):
    ingested = ingestion.ingest(tmp_path, str(_with_copies(tmp_path)))
    lines = pathlib.Path(ingested.quarantine.uri, "repeated.jsonl").read_text().splitlines()
    rows = sorted(map(json.loads, lines), key=lambda row: row["contradiction"])
    assert [row["paths"] for row in rows] == [
        {"identity a": ["identity a/0.png", "identity a/3.png"]},
        {"identity b": ["identity b/0.png"], "identity c": ["identity c/3.png"]},
    ]
    held_out = {row["identity"] for row in ingested.rows("eval")}
    assert [row["leak"] for row in rows] == [False, len({b"identity b", b"identity c"} & held_out) == 1]
    assert {key: ingested.count(key) for key in ("copies", "contradictions", "images")} == {
        "copies": 1, "contradictions": 1, "images": 32,
    }  # fmt: skip
    assert "identity b/0.png, identity c/3.png; mend that" in caplog.text


def test_contradictions_are_set_aside_where_that_is_asked_for_and_do_not_stop_a_run(tmp_path):
    folder = str(_with_copies(tmp_path))
    ingested = ingestion.ingest(tmp_path, folder, contradictions="set_aside", max_quarantine_fraction=0.0)
    assert ingested.bad() == {
        "identity b/0.png": "the same file as identity c/3.png, of another identity",
        "identity c/3.png": "the same file as identity b/0.png, of another identity",
    }
    assert (ingested.count("images"), ingested.count("quarantined")) == (30, 2)

"""A root that cannot be used, or is no longer whole: one line that names it and says what to do."""

import json
import os
import sqlite3

import pytest

from longtail.models import errors
from longtail.pipeline.local import root_folder


def store(root):
    """A root with a real database as its metadata store, and an artifact."""
    (root / "artifacts" / "ImageExampleGen").mkdir(parents=True)
    with sqlite3.connect(root / "metadata.sqlite") as database:
        database.execute("CREATE TABLE Artifact (id INTEGER PRIMARY KEY, uri TEXT)")
        database.executemany("INSERT INTO Artifact (uri) VALUES (?)", [("x" * 900,)] * 100)
    database.close()
    return root / "metadata.sqlite"


def refusal(root, kind):
    with pytest.raises(kind) as found, root_folder.hold(str(root)):
        pass
    assert str(found.value).startswith(f"--root {root}: ")
    return str(found.value)


@pytest.mark.parametrize("name", ["r[1]", "r*", "r?"])
def test_a_root_that_searches_would_take_for_a_pattern_is_refused_and_not_made(tmp_path, name):
    assert "for a pattern; choose another folder" in refusal(tmp_path / name / "root", errors.UsageError)
    assert not list(tmp_path.iterdir())


def test_a_root_with_a_whole_store_is_held(tmp_path):
    store(tmp_path)
    with root_folder.hold(str(tmp_path)):
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(os.urandom(4096)), "not a database"),
        (lambda path: os.truncate(path, 50_000), "malformed"),
        (lambda path: os.truncate(path, 0), "empty or gone"),
        (lambda path: path.unlink(), "empty or gone"),
    ],
)
def test_a_root_whose_store_is_damaged_is_refused(tmp_path, damage, said):
    damage(store(tmp_path))
    line = refusal(tmp_path, errors.WorkError)
    assert said in line and "put a copy of it back" in line and "\n" not in line


def test_a_disk_that_is_full_is_said_whatever_was_made_of_the_error_on_its_way(tmp_path):
    with pytest.raises(errors.WorkError) as found, root_folder.hold(str(tmp_path)):
        try:
            with open("/dev/full", "w") as file:
                file.write("x")
        except OSError as error:
            raise RuntimeError("a step failed") from error
    assert str(found.value).startswith(f"--root {tmp_path}: cannot be written any more (No space left on device); make")


def test_any_other_error_passes_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), root_folder.hold(str(tmp_path)):
        1 / 0  # noqa: B018


def test_no_folder_no_run_and_nothing_pushed_are_told_apart(tmp_path):
    said = []
    for root in (tmp_path / "none", tmp_path):
        with pytest.raises(errors.UsageError) as found:
            root_folder.finished(str(root))
        said.append(str(found.value))
    (tmp_path / "summary.json").write_text(json.dumps({"pushed_model": None, "reason": "mAP is low"}))
    with pytest.raises(errors.UsageError, match="pushed no model .mAP is low."):
        root_folder.finished(str(tmp_path))
    assert "no such folder" in said[0] and "no summary.json there" in said[1]

"""A file is replaced whole or not at all, and who cannot write is told where and why in one line."""

import os
import threading

import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models import files


@pytest.fixture(params=["disk", "uri"])
def folder(request, tmp_path):
    """A folder by its path, and by a URI that TensorFlow alone can open."""
    return str(tmp_path) if request.param == "disk" else f"ram://{tmp_path}"


def content(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def test_text_is_written_as_utf_8_into_a_folder_that_is_made(folder):
    files.write(f"{folder}/new/name.txt", "\u017e")
    assert content(f"{folder}/new/name.txt") == b"\xc5\xbe"


def test_what_was_there_is_replaced_and_nothing_else_is_left(folder):
    for value in (1, 2):
        files.write_json(f"{folder}/one.json", {"value": value})
    assert content(f"{folder}/one.json") == b'{\n "value": 2\n}\n'
    assert tf.io.gfile.listdir(folder) == ["one.json"]


def test_a_writer_that_fails_leaves_what_was_there(folder):
    files.write(f"{folder}/one", b"before")
    with pytest.raises(KeyError), files.replacing(f"{folder}/one") as half:
        with tf.io.gfile.GFile(half, "wb") as file:
            file.write(b"half")
        raise KeyError
    assert content(f"{folder}/one") == b"before"
    assert tf.io.gfile.listdir(folder) == ["one"]


def test_what_is_unfinished_lies_where_it_is_told_to(folder):
    with files.replacing(f"{folder}/read/one", f"{folder}/aside") as half:
        assert half.startswith(f"{folder}/aside/{files.UNFINISHED}")
        tf.io.gfile.makedirs(f"{folder}/read")
        files.write(half, b"content")
    assert content(f"{folder}/read/one") == b"content"


def test_a_reader_sees_one_writers_file_whole(tmp_path):
    texts = [letter * 100_000 for letter in "abcd"]
    writers = [threading.Thread(target=files.write, args=(str(tmp_path / "one"), text)) for text in texts for _ in "12"]
    files.write(str(tmp_path / "one"), texts[0])
    for writer in writers:
        writer.start()
    seen = {(tmp_path / "one").read_text() for _ in range(100)}
    for writer in writers:
        writer.join()
    assert seen <= set(texts)


@pytest.mark.parametrize(
    ("name", "why"),
    [("file/new/one", "Not a directory"), ("folder", "Is a directory"), ("n" * 300 + "/x", "File name too long")],
)
def test_who_cannot_write_is_told_where_and_why_and_nothing_is_left(tmp_path, name, why):
    (tmp_path / "file").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(errors.UsageError) as refused:
        files.write(str(tmp_path / name), "text")
    assert str(refused.value) == f"{tmp_path / name}: cannot be written ({why}); name another file"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here that is always full")
def test_a_full_disk_is_failed_work(tmp_path, monkeypatch):
    full = files._file_system("")._replace(open=lambda path, mode: open("/dev/full", mode))  # noqa: SIM115
    monkeypatch.setattr(files, "_file_system", lambda path: full)
    with pytest.raises(errors.WorkError, match=r"one: cannot be written \(No space left on device\); make room"):
        files.write(str(tmp_path / "one"), "text")


def test_a_uri_that_cannot_be_written_is_told_in_one_line():
    with pytest.raises(errors.UsageError, match="nosuch://folder/one: cannot be written") as refused:
        files.write("nosuch://folder/one", "text")
    assert "\n" not in str(refused.value)

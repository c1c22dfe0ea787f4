"""Which folders are versions of a model or a gallery."""

import pytest

from longtail.models.export import versions


def _version(folder, name, complete=True):
    (folder / name).mkdir()
    if complete:
        (folder / name / "saved_model.pb").write_bytes(b"model")


def test_versions_are_sorted_as_numbers_latest_first(tmp_path):
    for name in ("2", "10", "1"):
        _version(tmp_path, name)
    assert list(versions.find(str(tmp_path))) == [10, 2, 1]


def test_a_version_with_leading_zeros_is_found_where_it_lies(tmp_path):
    _version(tmp_path, "0001")
    assert versions.find_complete(str(tmp_path)) == {1: str(tmp_path / "0001")}


def test_of_two_names_of_one_version_the_plain_one_is_taken(tmp_path):
    for name in ("3", "0003"):
        _version(tmp_path, name)
    assert versions.find(str(tmp_path)) == {3: str(tmp_path / "3")}


@pytest.mark.parametrize("name", ["3.partial", "latest", "-1", "²", "٣", str(2**63), "9" * 200])
def test_only_decimal_ascii_digits_within_int64_name_a_version(tmp_path, name):
    _version(tmp_path, name)
    assert versions.find(str(tmp_path)) == {}


def test_the_largest_int64_is_a_version(tmp_path):
    _version(tmp_path, str(2**63 - 1))
    assert list(versions.find(str(tmp_path))) == [2**63 - 1]


def test_a_file_is_no_version(tmp_path):
    (tmp_path / "4").write_text("a file")
    assert versions.find(str(tmp_path)) == {}


def test_an_incomplete_version_is_passed_over(tmp_path):
    _version(tmp_path, "3")
    _version(tmp_path, "4", complete=False)
    assert versions.last_complete(str(tmp_path)) == 3


@pytest.mark.parametrize("folder", ["", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_has_no_versions(folder):
    assert versions.find(folder) == {} and versions.last_complete(folder) is None

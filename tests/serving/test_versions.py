"""Only whole versions count."""

from serving import versions


def test_versions_are_sorted_as_numbers_latest_first(tmp_path):
    for name in ("2", "10", "1"):
        (tmp_path / name).mkdir()
    assert list(versions.find(str(tmp_path))) == [10, 2, 1]


def test_files_and_half_written_folders_are_no_versions(tmp_path):
    for name in ("3.partial", "latest", "-1", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "4").write_text("a file")
    assert versions.find(str(tmp_path)) == {}


def test_a_missing_folder_has_no_versions(tmp_path):
    assert versions.find(str(tmp_path / "nowhere")) == {}

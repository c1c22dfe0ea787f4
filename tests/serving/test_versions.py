"""Only whole versions count."""

from longtail.serving import versions


def test_versions_are_sorted_as_numbers_latest_first(tmp_path):
    for name in ("2", "10", "1"):
        (tmp_path / name).mkdir()
    assert list(versions.find(str(tmp_path))) == [10, 2, 1]


def test_files_and_half_written_folders_are_no_versions(tmp_path):
    for name in ("3.partial", "latest", "-1", "²"):
        (tmp_path / name).mkdir()
    (tmp_path / "4").write_text("a file")
    assert versions.find(str(tmp_path)) == {}


def test_leading_zeros_do_not_count_as_for_tf_serving(tmp_path):
    (tmp_path / "0003").mkdir()
    assert versions.find(str(tmp_path)) == {3: str(tmp_path / "0003")}


def test_of_two_names_of_one_version_the_plain_one_is_read(tmp_path):
    for name in ("3", "0003"):
        (tmp_path / name).mkdir()
    assert versions.find(str(tmp_path)) == {3: str(tmp_path / "3")}


def test_a_number_beyond_int64_is_no_version(tmp_path):
    for name in ("9223372036854775807", "9223372036854775808", "9" * 200):
        (tmp_path / name).mkdir()
    assert list(versions.find(str(tmp_path))) == [2**63 - 1]


def test_a_missing_folder_has_no_versions(tmp_path):
    assert versions.find(str(tmp_path / "nowhere")) == {}

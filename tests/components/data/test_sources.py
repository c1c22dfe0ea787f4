"""Listing and reading images, whatever they lie in."""

import io
import os
import pathlib
import pickle
import stat
import tarfile
import threading
import tracemalloc
import zipfile
from concurrent import futures

import pytest

from longtail.components.data import names
from longtail.components.data import sources
from longtail.models import errors

_SHARED = pathlib.Path(__file__).parents[3].parent / "shared" / "data"


def _folder(root: pathlib.Path, *paths: str, content: bytes = b"") -> str:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content or path.encode())
    return str(root)


def _zip(file: pathlib.Path, *paths: str, content: bytes = b"") -> str:
    with zipfile.ZipFile(file, "w") as archive:
        for path in paths:
            archive.writestr(path, content or path.encode())
    return str(file)


def _tar(file: pathlib.Path, *paths: str, content: bytes = b"") -> str:
    with tarfile.open(file, "w") as archive:
        for path in paths:
            data = content or path.encode()
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(file)


MAKE = {
    "folder": lambda root, *paths, **how: _folder(root / "images", *paths, **how),
    "zip": lambda root, *paths, **how: _zip(root / "images.zip", *paths, **how),
    "tar": lambda root, *paths, **how: _tar(root / "images.tar", *paths, **how),
}
_PNG = b"\x89PNG\r\n\x1a\n"


def _identities(source: sources.Source) -> list[str]:
    return [item.identity for item in source.items()]


def test_a_folder_below_the_root_is_an_identity_nested_or_not(tmp_path):
    uri = _folder(tmp_path, "greek/alpha/1.png", "greek/beta/1.png", "solo/1.jpg")
    assert _identities(sources.open_source(uri)) == ["greek/alpha", "greek/beta", "solo"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_lists_and_reads_as_its_folder_does(tmp_path, kind):
    paths = ["a/1.png", "b/c/2.jpg", "b/c/3.PNG"]
    folder = sources.open_source(_folder(tmp_path / "folder", *paths))
    archive = sources.open_source(MAKE[kind](tmp_path, *paths))
    assert folder.items() == archive.items()
    assert [folder.read(i) for i in folder.items()] == [archive.read(i) for i in archive.items()]


def test_the_single_top_folder_of_a_zip_is_looked_through(tmp_path):
    uri = _zip(
        tmp_path / "x.zip", "top/a/1.png", "top/b/1.png", "top/readme.txt", "__MACOSX/._1.png"
    )
    source = sources.open_source(uri)
    assert [item.path for item in source.items()] == ["a/1.png", "b/1.png"]
    assert source.read(source.items()[1]) == b"top/b/1.png"


def test_a_zip_of_one_identity_is_not_looked_through(tmp_path):
    uri = _zip(tmp_path / "x.zip", "only/1.png", "only/2.png")
    with pytest.raises(errors.UsageError, match=r"one identity only \('only'\)"):
        sources.open_source(uri).items()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_opened_archive_travels_to_a_worker(tmp_path, kind):
    source = sources.open_source(MAKE[kind](tmp_path, "a/1.png", "b/1.png"))
    item = source.items()[0]
    source.read(item)
    assert pickle.loads(pickle.dumps(source)).read(item) == b"a/1.png"


def test_what_is_no_image_is_ignored_by_name_with_its_reason(tmp_path):
    uri = _folder(tmp_path, "a/1.png", "b/1.webp", "b/.DS_Store", ".git/a/1.png", "b/notes.txt", "b/Thumbs.db")
    (tmp_path / "b" / "empty").touch()
    listing = sources.open_source(uri).listing()
    assert [item.path for item in listing.items] == ["a/1.png", "b/1.webp"]
    assert dict(listing.ignored) == {
        ".git/": "a hidden folder",
        "b/.DS_Store": "a hidden file",
        "b/Thumbs.db": "a system's own file",
        "b/empty": "empty file",
        "b/notes.txt": "not an image by its content",
    }


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize(
    "system",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "__MACOSX", "System Volume Information", "@Recycle", ".Trash"],
)
def test_a_folder_that_a_system_made_is_no_identity(tmp_path, kind, system):
    uri = MAKE[kind](tmp_path, "a/1.png", "b/1.png", f"{system}/1.png", f"b/{system}/x/2.png")
    listing = sources.open_source(uri).listing()
    assert [item.identity for item in listing.items] == ["a", "b"]
    assert [path for path, _ in listing.ignored] == sorted([f"{system}/", f"b/{system}/"])


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("name", ["1.jfif", "1.jpe", "1", "1.dat", "1.PNG"])
def test_an_image_is_one_by_its_content_whatever_its_name(tmp_path, kind, name):
    uri = MAKE[kind](tmp_path, f"a/{name}", "b/1.png", content=_PNG)
    assert [item.path for item in sources.open_source(uri).items()] == [f"a/{name}", "b/1.png"]


def test_a_picture_of_another_format_is_ignored_with_what_to_do(tmp_path):
    uri = _folder(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    [(path, reason)] = sources.open_source(uri).listing().ignored
    assert (path, "a HEIC picture" in reason, "convert it" in reason) == ("b/phone.heic", True, True)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_two_spellings_of_a_name_are_one_identity(tmp_path, kind):
    uri = MAKE[kind](tmp_path, "Jos\u00e9/1.png", "Jose\u0301/2.png", "b/1.png")
    items = sources.open_source(uri).items()
    assert {item.identity for item in items} == {"Jos\u00e9", "b"}
    assert len(items) == 3 and all(sources.open_source(uri).read(item) for item in items)


def test_identities_that_differ_by_case_alone_are_named():
    assert names.same_but_for_case(["Anna", "anna", "ANNA", "bob", "Stra\u00dfe", "STRASSE"]) == [
        ["ANNA", "Anna", "anna"],
        ["STRASSE", "Stra\u00dfe"],
    ]


def test_an_image_in_no_identitys_folder_is_rejected_with_a_reason(tmp_path):
    listing = sources.open_source(_folder(tmp_path, "a/1.png", "b/1.png", "loose.png")).listing()
    assert listing.rejected == (("loose.png", "lies at the top, in no identity's folder"),)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_zip_entries_of_one_path_the_first_is_read_and_the_second_rejected(tmp_path):
    uri = tmp_path / "x.zip"
    with zipfile.ZipFile(uri, "w") as archive:
        for path, content in (("a/1.png", "first"), ("a/1.png", "second"), ("b/1.png", "b")):
            archive.writestr(path, content)
    source = sources.open_source(str(uri))
    listing = source.listing()
    assert listing.rejected == (("a/1.png", "another file has the same path"),)
    assert source.read(listing.items[0]) == b"first"


def test_threads_that_open_a_zip_at_once_all_find_their_entry(tmp_path):
    archive = _zip(tmp_path / "a.zip", *(f"a/{number}.png" for number in range(3000)))
    items = sources.open_source(archive).listing(min_identities=1).items[-8:]
    for _ in range(3):
        source, together = sources.open_source(archive), threading.Barrier(8)

        def read(item, source=source, together=together):
            together.wait()
            return source.read(item)

        with futures.ThreadPoolExecutor(8) as pool:
            assert [data.decode() for data in pool.map(read, items)] == [f"a/{item.path[2:]}" for item in items]


def test_a_zip_entry_that_leads_out_of_the_root_is_rejected(tmp_path):
    uri = _zip(tmp_path / "x.zip", "a/1.png", "b/1.png", "c/../../evil.png")
    assert sources.open_source(uri).listing().rejected == (
        ("../evil.png", "leads out of the data's root"),
    )


def test_a_damaged_zip_entry_cannot_be_read_and_says_so(tmp_path):
    uri = tmp_path / "x.zip"
    _zip(uri, "a/1.png", "b/1.png")
    uri.write_bytes(uri.read_bytes().replace(b"a/1.pnga/1.png", b"a/1.pnga/1.pnX"))
    source = sources.open_source(str(uri))
    with pytest.raises(sources.ReadError, match="cannot be unpacked: Bad CRC-32"):
        source.read(source.items()[0])


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_entry_that_could_unpack_without_bound_is_rejected(tmp_path, compression):
    uri = tmp_path / "x.zip"
    _zip(uri, "a/1.png", "b/1.png")
    with zipfile.ZipFile(uri, "a", compression) as archive:
        archive.writestr("b/2.png", bytes(10**6))
    [(path, reason)] = sources.open_source(str(uri)).listing().rejected
    assert path == "b/2.png" and "pack it with deflate" in reason


def test_a_zip_entry_whose_size_lies_is_unpacked_no_further_than_it_states(tmp_path):
    uri = tmp_path / "x.zip"
    with zipfile.ZipFile(uri, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in ("a/1.png", "b/1.png"):
            archive.writestr(path, bytes(300_000_000) if path == "b/1.png" else b"a")
    stated = (300_000_000).to_bytes(4, "little")
    uri.write_bytes(uri.read_bytes().replace(stated, (1000).to_bytes(4, "little")))
    source = sources.open_source(str(uri))
    tracemalloc.start()
    with pytest.raises(sources.ReadError, match="cannot be unpacked: Bad CRC-32"):
        source.read(source.items()[1])
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind, reason", [(stat.S_IFLNK, "a link in an archive"), (stat.S_IFIFO, "not a regular file")])
def test_what_is_no_file_in_a_zip_is_rejected(tmp_path, kind, reason):
    uri = tmp_path / "x.zip"
    _zip(uri, "a/1.png", "b/1.png")
    with zipfile.ZipFile(uri, "a") as archive:
        info = zipfile.ZipInfo("b/2.png")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "/etc/passwd")
    assert sources.open_source(str(uri)).listing().rejected == (("b/2.png", reason),)


@pytest.mark.parametrize("kind, reason", [(tarfile.SYMTYPE, "a link in an"), (tarfile.CHRTYPE, "not a regular")])
def test_what_is_no_file_in_a_tar_is_rejected(tmp_path, kind, reason):
    uri = _tar(tmp_path / "x.tar", "a/1.png", "b/1.png")
    with tarfile.open(uri, "a") as archive:
        info = tarfile.TarInfo("b/2.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    [(path, found)] = sources.open_source(uri).listing().rejected
    assert path == "b/2.png" and found.startswith(reason)


def test_a_compressed_tar_is_refused_in_one_line(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz"):
        pass
    with pytest.raises(errors.UsageError, match="not a readable, uncompressed .tar"):
        sources.open_source(str(tmp_path / "x.tar")).items()


def test_what_is_no_regular_file_is_rejected_unopened(tmp_path):
    uri = _folder(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "3.png").symlink_to("/dev/zero")
    listing = sources.open_source(uri).listing()
    assert dict(listing.rejected) == {
        "a/2.png": "not a regular file",
        "a/3.png": "a link that leads out of the data's folder",
    }
    for path in ("a/2.png", "a/3.png"):
        with pytest.raises(sources.ReadError, match="not a regular file"):
            sources.open_source(uri).read(sources.Item(path, "a"))


def test_a_zip_with_a_name_that_is_not_utf8_is_named(tmp_path):
    uri = tmp_path / "x.zip"
    _zip(uri, "a/é.png", "b/1.png")
    uri.write_bytes(uri.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(errors.UsageError, match="x.zip: not a readable .zip: 'utf-8' codec"):
        sources.open_source(str(uri)).items()


def test_a_name_in_a_folder_that_is_not_utf8_is_an_error_that_shows_it(tmp_path):
    _folder(tmp_path, "a/1.png", "b/1.png")
    with open(os.fsencode(tmp_path) + b"/b/\xff.png", "wb"):
        pass
    for look in (sources.fingerprint, lambda uri: sources.open_source(uri).items()):
        with pytest.raises(errors.UsageError, match=r"/b: the name of a file .* not UTF-8 .*xff\.png"):
            look(str(tmp_path))


@pytest.mark.parametrize("target, reason", [("nowhere", "a link to nowhere"), ("0.png", "cannot be read: Too many")])
def test_a_link_to_nowhere_or_itself_is_rejected_and_marked(tmp_path, target, reason):
    uri = _folder(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "0.png").symlink_to(target)
    [(path, found)] = sources.open_source(uri).listing().rejected
    assert path == "a/0.png" and found.startswith(reason) and sources.fingerprint(uri)
    with pytest.raises(sources.ReadError, match="cannot be read"):
        sources.open_source(uri).read(sources.Item("a/0.png", "a"))


def test_a_link_to_a_folder_above_adds_nothing(tmp_path):
    uri = _folder(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (tmp_path / "a" / "up").symlink_to("..")
    assert _identities(sources.open_source(uri)) == ["a", "a", "b", "b"]


def test_of_a_folder_and_a_link_to_it_the_folder_is_listed(tmp_path):
    uri = _folder(tmp_path, "b/1.png", "c/1.png")
    (tmp_path / "a").symlink_to("c")
    assert _identities(sources.open_source(uri)) == ["b", "c"]


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/x/1.png", "."])
def test_a_link_out_of_the_folder_is_rejected(tmp_path, target):
    _folder(tmp_path / "elsewhere", "x/1.png")
    uri = _folder(tmp_path / "data", "b/1.png", "c/1.png")
    (tmp_path / "data" / "a").symlink_to(tmp_path / target)
    listing = sources.open_source(uri).listing()
    assert [item.identity for item in listing.items] == ["b", "c"]
    assert listing.rejected == (("a", "a link that leads out of the data's folder"),)


def test_a_root_that_is_itself_a_link_is_the_same_source(tmp_path):
    uri = _folder(tmp_path / "data", "a/1.png", "b/1.png")
    (tmp_path / "link").symlink_to("data")
    assert sources.open_source(str(tmp_path / "link")).items() == sources.open_source(uri).items()


def test_a_file_that_is_gone_cannot_be_read_and_says_so(tmp_path):
    source = sources.open_source(_folder(tmp_path, "a/1.png", "b/1.png"))
    item = source.items()[0]
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(sources.ReadError, match="cannot be read"):
        source.read(item)


@pytest.mark.parametrize("kind", [*MAKE, "glyphs"])
def test_a_file_over_the_limit_is_not_read(tmp_path, kind):
    uri = MAKE[kind](tmp_path, "a/1.png", "b/1.png") if kind in MAKE else "glyphs:identities=2,head=0"
    source = sources.open_source(uri)
    with pytest.raises(sources.ReadError, match="more than 3"):
        source.read(source.items()[0], max_bytes=3)


def test_the_camera_is_the_number_the_pattern_finds_in_the_file_name(tmp_path):
    uri = _folder(tmp_path, "a9/0001_07.png", "a9/0001_x.png", "b/0002_12.png")
    source = sources.open_source(uri, camera_pattern=r"_(\d+)\.png$")
    assert [item.camera for item in source.items()] == [7, -1, 12]


@pytest.mark.parametrize(
    "pattern, message",
    [
        (r"_(\d+", "unterminated"),
        (r"_\d+", "has 0 groups; it needs one"),
        (r"(.)\.png", "finds 'a' in .*; its group must match digits"),
    ],
)
def test_a_bad_camera_pattern_is_a_usage_error(tmp_path, pattern, message):
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(_folder(tmp_path, "a/a.png"), camera_pattern=pattern).items()


def test_market1501_tells_identity_camera_and_split_by_name(tmp_path):
    uri = _folder(
        tmp_path,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0007_c3s3_077419_00.jpg",
        "bounding_box_test/0000_c6s3_094992_01.jpg",
    )
    assert sources.open_source(uri, "market1501").items() == [
        sources.Item("bounding_box_test/0000_c6s3_094992_01.jpg", "0000", 6, "gallery"),
        sources.Item("bounding_box_train/0002_c1s1_000451_03.jpg", "0002", 1, "train"),
        sources.Item("query/0007_c3s3_077419_00.jpg", "0007", 3, "query"),
    ]


def test_market1501_junk_is_dropped_and_a_strange_name_rejected(tmp_path):
    uri = _folder(
        tmp_path,
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "query/0007_c3s3_077419_00.jpg",
        "query/portrait.jpg",
        "bounding_box_test/-1_c6s3_094992_01.jpg",
    )
    listing = sources.open_source(uri, "market1501").listing()
    assert listing.dropped == (
        ("bounding_box_test/-1_c6s3_094992_01.jpg", "junk by its name: identity -1"),
    )
    assert listing.rejected == (("query/portrait.jpg", "name is not like 0002_c1s1_000451_03.jpg"),)


@pytest.mark.parametrize(
    "uri, message",
    [
        ("missing", "no such folder, .zip or .tar; check the path"),
        ("empty", "no images and none to read; expected one folder of images per identity"),
        ("loose", "1 misplaced images and none to read"),
        ("one", r"one identity only \('a'\), at least 2 are needed"),
        ("one/a/1.png", "neither a folder nor a .zip or .tar"),
        ("broken.zip", "not a readable .zip"),
        ("nosuchscheme://bucket/folder", "nosuchscheme"),
    ],
)
def test_a_source_with_nothing_to_work_with_says_what_is_wrong(tmp_path, uri, message):
    (tmp_path / "empty").mkdir()
    _folder(tmp_path, "loose/1.png", "one/a/1.png", "broken.zip")
    where = uri if "://" in uri else str(tmp_path / uri)
    with pytest.raises(errors.UsageError, match=message) as caught:
        sources.open_source(where).items()
    assert "\n" not in str(caught.value)


def test_one_identity_will_do_where_the_caller_says_so(tmp_path):
    source = sources.open_source(_folder(tmp_path, "a/1.png"))
    assert len(source.listing(min_identities=1).items) == 1


@pytest.mark.parametrize("layout", ["market", "glyphs"])
def test_an_unknown_layout_is_named_with_the_valid_ones(tmp_path, layout):
    with pytest.raises(errors.UsageError, match=f"'{layout}'; valid are folder, market1501"):
        sources.open_source(str(tmp_path), layout)


@pytest.mark.parametrize("pattern", ["span-{SPAN}", "span-{SPAN:04d}"])
def test_the_spans_number_stands_in_for_its_name(tmp_path, pattern):
    _folder(tmp_path, "span-7/a/1.png", "span-7/b/1.png", "span-0007/c/1.png", "span-0007/d/1.png")
    found = _identities(sources.open_source(str(tmp_path / pattern), span=7))
    assert found == (["c", "d"] if "04" in pattern else ["a", "b"])


def test_a_span_format_that_numbers_do_not_have_is_a_usage_error():
    with pytest.raises(errors.UsageError, match="write {SPAN}"):
        sources.open_source("data/{SPAN:04q}", span=1)


@pytest.mark.parametrize("kind", MAKE)
def test_the_fingerprint_changes_with_the_data_alone(tmp_path, kind):
    uri = MAKE[kind](tmp_path, "a/1.png", "b/1.png")
    before = sources.fingerprint(uri)
    assert sources.fingerprint(uri) == before
    MAKE[kind](tmp_path, "a/1.png", "b/1.png", "b/2.png")
    assert sources.fingerprint(uri) != before


def test_the_fingerprint_of_glyphs_hangs_on_their_parameters_and_span():
    short, spelled_out = "glyphs:identities=9,head=3", "glyphs:head=3,identities=9,seed=0"
    assert sources.fingerprint(short, span=1) == sources.fingerprint(spelled_out, span=1)
    assert sources.fingerprint(short, span=1) != sources.fingerprint(short, span=2)
    assert sources.fingerprint(short, span=1) != sources.fingerprint("glyphs:identities=8,head=3")


def test_omniglot_lists_its_characters_and_drawers():
    archive = _SHARED / "omniglot_background.zip"
    if not archive.exists():
        pytest.skip(f"{archive.name} is not here")
    source = sources.open_source(str(archive), camera_pattern=r"(\d+)\.png$")
    items = source.items()
    assert len(items) == 964 * 20
    assert len({item.identity for item in items}) == 964
    assert items[0].identity == "Alphabet_of_the_Magi/character01"
    assert {item.camera for item in items} == set(range(1, 21))
    assert source.read(items[0]).startswith(b"\x89PNG")

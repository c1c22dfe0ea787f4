"""Layouts that publish lists, and sources that say themselves whose images they are; each made here, small."""

import csv
import struct

import pyarrow
import pytest
import tensorflow as tf
from pyarrow import parquet

from longtail.components.data import base
from longtail.components.data import sources
from longtail.models import errors


def _files(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return str(root)


def test_dukemtmc_tells_identity_camera_and_split_by_name(tmp_path):
    uri = _files(tmp_path, "bounding_box_train/0001_c2_f0046182.jpg", "query/0005_c2_f0046985.jpg",
                 "bounding_box_test/0005_c7_f0046985.jpg", "query/0005_c2s1.jpg")  # fmt: skip
    listing = sources.open_source(uri, "dukemtmc").listing()
    assert [(item.identity, item.camera, item.split) for item in listing.items] == [
        ("0005", 7, "gallery"),
        ("0001", 2, "train"),
        ("0005", 2, "query"),
    ]
    assert listing.rejected == (("query/0005_c2s1.jpg", "name is not like 0005_c2_f0046985.jpg"),)


def _msmt17(root, **lists):
    names = {"train": "0000/0000_000_01_0303morning_0008_0.jpg", "query": "0000/0000_001_04_0303noon_0002_1.jpg",
             "gallery": "0001/0001_000_15_0303noon_0002_1.jpg"}  # fmt: skip
    for name, path in names.items():
        _files(root, f"{'train' if name == 'train' else 'test'}/{path}")
        (root / f"list_{name}.txt").write_text(lists.get(name, f"{path} {int(path[:4])}\n"))
    return str(root)


def test_msmt17_goes_by_its_lists_and_no_number_is_one_person_in_train_and_test(tmp_path):
    _files(tmp_path, "test/0002/0002_000_01_0303morning_0000_0.jpg")
    listing = sources.open_source(_msmt17(tmp_path), "msmt17").listing()
    assert [(item.identity, item.camera, item.split) for item in listing.items] == [
        ("test/0000", 4, "query"),
        ("test/0001", 15, "gallery"),
        ("train/0000", 1, "train"),
    ]
    assert listing.dropped == (("test/0002/0002_000_01_0303morning_0000_0.jpg", "in none of the lists"),)
    assert not listing.ignored  # the lists are no strangers


def test_msmt17_names_images_that_are_listed_and_not_there(tmp_path):
    uri = _msmt17(tmp_path)
    with open(tmp_path / "list_query.txt", "a") as file:
        file.write("0009/0009_000_01_0303noon_0002_1.jpg 9\n")
    [(path, reason)] = sources.open_source(uri, "msmt17").listing().rejected
    assert (path, reason) == ("test/0009/0009_000_01_0303noon_0002_1.jpg", "named in list_query.txt, but not there")


@pytest.mark.parametrize(
    "lists, message",
    [
        ({"query": "portrait.jpg 3\n"}, "list_query.txt, line 1: 'portrait.jpg 3' is not like '0000/0000_000"),
        ({"gallery": None}, "list_gallery.txt: cannot be read.*expected list_train.txt"),
    ],
)
def test_a_wrong_msmt17_names_the_list_and_what_was_expected(tmp_path, lists, message):
    uri = _msmt17(tmp_path, **{name: text or "" for name, text in lists.items()})
    for name, text in lists.items():
        if text is None:
            (tmp_path / f"list_{name}.txt").unlink()
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(uri, "msmt17").items()


def _lfw(root, pairs):
    (root / "pairs.txt").parent.mkdir(exist_ok=True)
    (root / "pairs.txt").write_text(pairs)
    return _files(root, "Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0004.jpg", "Bo_Ek/Bo_Ek_0001.jpg")


def test_lfw_carries_its_pairs_and_their_folds(tmp_path):
    rows = "2\t1\nAnn_Lee\t1\t4\nAnn_Lee\t1\tBo_Ek\t1\nAnn_Lee\t4\t1\nBo_Ek\t1\tAnn_Lee\t4\n"
    listing = sources.open_source(_lfw(tmp_path, rows), "lfw").listing()
    ann1, ann4, bo = (item.path for item in listing.items)
    assert listing.pairs == (
        base.Pair(ann1, ann4, True, 0),
        base.Pair(ann1, bo, False, 0),
        base.Pair(ann4, ann1, True, 1),
        base.Pair(bo, ann4, False, 1),
    )


@pytest.mark.parametrize(
    "rows, message",
    [
        ("1\nAnn_Lee 1 9\n", "pairs.txt, line 2: no image Ann_Lee_0009"),
        ("1\nAnn_Lee one 9\n", "pairs.txt, line 2: 'Ann_Lee one 9' is not like"),
    ],
)
def test_a_wrong_pair_names_its_line(tmp_path, rows, message):
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(_lfw(tmp_path, rows), "lfw").items()


ROWS = [
    {"path": "x/1.jpg", "label": "Jose\u0301", "camera": 3, "split": "query"},
    {"path": "2", "label": "Jos\u00e9", "camera": None, "split": None},
    {"path": "../evil.jpg", "label": "b", "camera": None, "split": None},
    {"path": "x/1.jpg", "label": "b", "camera": None, "split": None},
    {"path": "gone.jpg", "label": "b", "camera": None, "split": None},
]


def _manifest(root, kind, rows=ROWS):
    _files(root, "x/1.jpg", "2", "unlisted.jpg")
    uri = root / f"list.{kind}"
    if kind == "csv":
        with open(uri, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), uri)
    return str(uri)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_names_images_their_labels_cameras_and_splits(tmp_path, kind):
    source = sources.open_source(_manifest(tmp_path, kind))
    listing = source.listing()
    assert listing.items == (
        base.Item("2", "Jos\u00e9"),
        base.Item("gone.jpg", "b"),
        base.Item("x/1.jpg", "Jos\u00e9", 3, "query"),
    )
    assert dict(listing.rejected) == {
        "../evil.jpg": "leads out of the data's root",
        "x/1.jpg": "another file has the same path",
    }
    assert source.read(listing.items[0]) == b"2"
    with pytest.raises(base.ReadError, match="no such file"):
        source.read(listing.items[1])


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"file": "1", "label": "a"}], "no column path among file, label; expected path,label"),
        ([{"path": "1", "label": ""}], "row 1: no path or no label"),
        ([{"path": "1", "label": "a", "camera": "left"}], "row 1: camera 'left' is no whole number"),
        ([{"path": "1", "label": "a", "split": "dev"}], "row 1: split 'dev'; valid are train, query, gallery"),
    ],
)
def test_a_wrong_manifest_names_the_row_and_what_was_expected(tmp_path, rows, message):
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(_manifest(tmp_path, "csv", rows)).items()


def test_the_fingerprint_of_a_manifest_changes_with_a_file_it_names(tmp_path):
    uri = _manifest(tmp_path, "csv")
    before = sources.fingerprint(uri)
    assert sources.fingerprint(uri) == before
    (tmp_path / "2").write_bytes(b"longer")
    assert sources.fingerprint(uri) != before


def _example(**values):
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    made = {key.replace("__", "/"): feature(value) for key, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def _tfrecord(root):
    for shard, labels in enumerate(([7, 7], [8])):
        with tf.io.TFRecordWriter(str(root / f"part-{shard}.tfrecord")) as writer:
            for number, label in enumerate(labels):
                writer.write(_example(image__encoded=b"%d %d" % (shard, number), image__class=label, cam=number))
    return f"tfrecord:{root}/part-*.tfrecord,image=image/encoded,label=image/class,camera=cam"


def test_tfrecords_are_read_by_their_map_each_record_by_itself(tmp_path):
    source = sources.open_source(_tfrecord(tmp_path))
    items = source.items()
    assert [(item.identity, item.camera) for item in items] == [("7", 0), ("7", 1), ("8", 0)]
    assert [source.read(item) for item in reversed(items)] == [b"1 0", b"0 1", b"0 0"]


def test_an_absolute_uri_means_the_same_from_every_folder(tmp_path, monkeypatch):
    _tfrecord(tmp_path)
    monkeypatch.chdir(tmp_path)
    absolute = sources.absolute("tfrecord:part-*.tfrecord,image=image/encoded,label=image/class")
    assert absolute == f"tfrecord:{tmp_path}/part-*.tfrecord,image=image/encoded,label=image/class"
    assert sources.absolute("a,b.zip") == f"{tmp_path}/a,b.zip"
    assert sources.absolute("gs://bucket/x") == "gs://bucket/x"


def test_a_truncated_tfrecord_is_named_and_what_is_before_is_read(tmp_path):
    uri = _tfrecord(tmp_path)
    whole = (tmp_path / "part-0.tfrecord").read_bytes()
    (tmp_path / "part-0.tfrecord").write_bytes(whole[:-9])
    listing = sources.open_source(uri).listing()
    assert [item.identity for item in listing.items] == ["7", "8"]
    assert "what follows in part-0.tfrecord is lost" in listing.rejected[0][1]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda uri: uri.replace("image/class", "label"), "no value in 'label' of the record .*features are cam, im"),
        (lambda uri: uri.replace(",label=image/class", ""), "expected tfrecord:FILES,image=KEY,label=KEY"),
        (lambda uri: uri.replace("part-*", "none"), "no such file; expected tfrecord:"),
    ],
)
def test_a_wrong_map_names_what_there_is(tmp_path, change, message):
    with pytest.raises(errors.UsageError, match=message):
        sources.open_source(change(_tfrecord(tmp_path))).items()


def _record(content):
    return struct.pack("<II", 0xCED7230A, len(content)) + content + bytes(-len(content) % 4)


def _rec(root):
    """Two persons of two faces, as InsightFace writes them; a face holds the magic, so its record is in parts."""
    magic = struct.pack("<I", 0xCED7230A)
    head = struct.pack("<IfQQff", 2, 0.0, 0, 0, 5.0, 7.0)
    faces = [struct.pack("<IfQQ", 0, label, 0, 0) + b"face %d" % number for number, label in enumerate((0, 0, 1))]
    split = struct.pack("<IfQQ", 0, 1.0, 0, 0)
    parts = struct.pack("<II", 0xCED7230A, 1 << 29 | len(split)) + split
    parts += struct.pack("<II", 0xCED7230A, 3 << 29 | 4) + b"tail"
    persons = [struct.pack("<IfQQff", 2, 0.0, 0, 0, 1.0, 3.0)] * 2
    records = [_record(head), *map(_record, faces), parts, *map(_record, persons)]
    begin, lines = 0, []
    for key, record in enumerate(records):
        lines.append(f"{key}\t{begin}\n")
        begin += len(record)
    (root / "train.rec").write_bytes(b"".join(records))
    (root / "train.idx").write_text("".join(lines))
    return str(root / "train.rec"), magic


def test_a_rec_gives_its_faces_and_not_what_it_says_of_persons(tmp_path):
    uri, magic = _rec(tmp_path)
    source = sources.open_source(uri)
    items = sorted(source.items(), key=lambda item: int(item.path.partition("@")[2].partition("+")[0]))
    assert [item.identity for item in items] == ["0", "0", "1", "1"]
    assert [source.read(item) for item in items] == [b"face 0", b"face 1", b"face 2", magic + b"tail"]


def test_a_rec_without_its_index_names_it(tmp_path):
    uri, _ = _rec(tmp_path)
    (tmp_path / "train.idx").unlink()
    with pytest.raises(errors.UsageError, match="train.idx: the index of the .rec cannot be read"):
        sources.open_source(uri).items()


def test_a_damaged_record_of_a_rec_is_rejected(tmp_path):
    uri, _ = _rec(tmp_path)
    data = bytearray((tmp_path / "train.rec").read_bytes())
    place = int((tmp_path / "train.idx").read_text().splitlines()[1].split()[1])
    data[place] ^= 255
    (tmp_path / "train.rec").write_bytes(data)
    listing = sources.open_source(uri).listing()
    assert len(listing.items) == 3
    assert listing.rejected[0][1] == "no record of an .rec: it does not begin as one"


@pytest.mark.parametrize("name", ["list.csv", "train.rec", "list.parquet"])
def test_a_source_that_is_not_there_is_a_usage_error(tmp_path, name):
    with pytest.raises(errors.UsageError, match=f"{name}: no such file"):
        sources.open_source(str(tmp_path / name))


def test_a_layout_beside_what_says_it_itself_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="says itself whose images they are"):
        sources.open_source(_manifest(tmp_path, "csv"), "market1501")

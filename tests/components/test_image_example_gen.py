"""ImageExampleGen through a real Beam run on real files."""

import collections
import io
import json
import logging
import pathlib
import zipfile

import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2
from PIL import Image
from tfx.components.util import examples_utils
from tfx.orchestration import metadata
from tfx.orchestration import pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

from components import artifacts
from components import features
from components import sources
from components.image_example_gen import component
from components.image_example_gen import executor
from models import errors

BEAM = [
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--sdk_container_image=none",  # else TFX packs itself up for remote workers, seconds a run
]
GLYPHS = "glyphs:identities=12,head=3,head_images=5,tail_images=2,size=16"


class Ingested:
    """What a run left behind."""

    def __init__(self, root: pathlib.Path):
        self.examples = standard_artifacts.Examples()
        self.examples.uri = str(root / "examples")
        self.quarantine = artifacts.Quarantine()
        self.quarantine.uri = str(root / "quarantine")

    def files(self) -> dict[str, bytes]:
        root = pathlib.Path(self.examples.uri)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def rows(self, split: str) -> list[dict]:
        paths = tf.io.gfile.glob(f"{self.examples.uri}/Split-{split}/*")
        records = tf.data.TFRecordDataset(sorted(paths), "GZIP").as_numpy_iterator()
        return [_row(record) for record in records]

    def bad(self) -> dict[str, str]:
        lines = pathlib.Path(self.quarantine.uri, "quarantine.jsonl").read_text().splitlines()
        return {row["path"]: row["reason"] for row in map(json.loads, lines)}

    def count(self, key: str) -> int:
        return self.examples.get_int_custom_property(key)


def _row(record: bytes) -> dict:
    found = tf.train.Example.FromString(record).features.feature
    return {key: getattr(value, value.WhichOneof("kind")).value[0] for key, value in found.items()}


def _ingest(root: pathlib.Path, source: str, **parameters) -> Ingested:
    made = component.ImageExampleGen(source=source, **{"span": 1, **parameters})
    ingested = Ingested(root)
    context = executor.Executor.Context(beam_pipeline_args=BEAM, tmp_dir=str(root / "tmp"))
    executor.Executor(context).Do(
        {},
        {"examples": [ingested.examples], "quarantine": [ingested.quarantine]},
        made.exec_properties,
    )
    return ingested


def _png(grey: int, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def _folder(root: pathlib.Path, images: dict[str, int]) -> pathlib.Path:
    """Identity -> number of images, each of another grey."""
    for identity, count in images.items():
        (root / identity).mkdir(parents=True)
        for index in range(count):
            (root / identity / f"{index}.png").write_bytes(_png(10 * index + len(identity)))
    return root


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory) -> Ingested:
    return _ingest(tmp_path_factory.mktemp("glyphs"), GLYPHS, span=4)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Ingested:
    """40 good images, and one of each bad kind."""
    root = tmp_path_factory.mktemp("damaged")
    folder = _folder(root / "data", {f"id{number}": 4 for number in range(10)})
    (folder / "id0" / "empty.png").write_bytes(b"")
    (folder / "id1" / "text.jpg").write_bytes(b"no image at all")
    (folder / "id2" / "truncated.png").write_bytes(_png(0, (90, 90))[:-30])
    (folder / "id3" / "oversized.png").write_bytes(_png(0, (200, 101)))
    (folder / "loose.png").write_bytes(_png(0))
    (folder / "id4" / "notes.txt").write_text("not looked at")
    parameters = {"max_pixels": 20000, "max_quarantine_fraction": 0.2}
    return _ingest(root, str(folder), **parameters)


def test_every_image_of_the_source_is_in_exactly_one_split(glyphs):
    paths = [
        row[features.PATH].decode() for split in ("train", "eval") for row in glyphs.rows(split)
    ]
    assert sorted(paths) == [item.path for item in sources.open_source(GLYPHS).items()]


def test_no_identity_is_in_both_splits(glyphs):
    train, held_out = (
        {row[features.IDENTITY] for row in glyphs.rows(split)} for split in ("train", "eval")
    )
    assert train and held_out
    assert not train & held_out


def test_every_feature_has_its_value(glyphs):
    source = sources.open_source(GLYPHS, span=4)
    item = next(item for item in source.items() if item.path.endswith("0001.png"))
    rows = [*glyphs.rows("train"), *glyphs.rows("eval")]
    row = next(row for row in rows if row[features.PATH].decode() == item.path)
    keys = {features.ENCODED, features.PATH, features.SHA256, features.SPLIT, *features.STATISTICS}
    assert set(row) == keys
    assert row[features.ENCODED] == source.read(item)
    assert (row[features.FORMAT], row[features.HEIGHT], row[features.WIDTH]) == (b"png", 16, 16)
    assert (row[features.IDENTITY].decode(), row[features.CAMERA]) == (item.identity, -1)


def test_each_held_out_identity_asks_and_answers(glyphs):
    sides = collections.defaultdict(set)
    for row in glyphs.rows("eval"):
        sides[row[features.IDENTITY]].add(row[features.SPLIT])
    assert all(found == {b"query", b"gallery"} for found in sides.values())
    assert {row[features.SPLIT] for row in glyphs.rows("train")} == {b"train"}


def test_the_artifact_says_what_is_in_it(glyphs):
    assert glyphs.examples.span == 4
    assert glyphs.examples.splits == ["train", "eval"]
    assert examples_utils.get_payload_format(glyphs.examples) == (
        example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    assert examples_utils.get_file_format(glyphs.examples) == "tfrecords_gzip"
    assert glyphs.examples.get_string_custom_property("fingerprint") == (
        sources.fingerprint(GLYPHS, span=4)
    )
    assert (glyphs.count("images"), glyphs.count("identities")) == (33, 12)
    assert glyphs.count("train_images") == len(glyphs.rows("train"))
    assert glyphs.count("eval_images") == len(glyphs.rows("eval"))
    assert glyphs.count("train_identities") + glyphs.count("eval_identities") == 12
    assert glyphs.count("quarantined") == 0


def test_the_same_data_gives_the_same_files_byte_for_byte(glyphs, tmp_path):
    assert _ingest(tmp_path, GLYPHS, span=4).files() == glyphs.files()


def test_nothing_but_the_splits_is_left_behind(glyphs):
    assert {path.split("/")[0] for path in glyphs.files()} == {"Split-train", "Split-eval"}


def test_a_run_over_the_remains_of_another_leaves_none_of_them(tmp_path):
    remains = tmp_path / "examples" / "Split-train" / "data_tfrecord-00007-of-00009.gz"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half a file")
    assert "Split-train/data_tfrecord-00007-of-00009.gz" not in _ingest(tmp_path, GLYPHS).files()


def test_many_images_are_spread_over_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "_IMAGES_A_SHARD", 5)
    ingested = _ingest(tmp_path, GLYPHS)
    assert len([path for path in ingested.files() if path.startswith("Split-train")]) > 2
    assert len(ingested.rows("train")) + len(ingested.rows("eval")) == 33


def test_an_identity_stays_on_its_side_when_others_join(tmp_path):
    def sides(root: pathlib.Path, identities: int) -> dict[bytes, str]:
        source = f"glyphs:identities={identities},head=0,tail_images=2,size=16"
        ingested = _ingest(root, source)
        return {row[features.IDENTITY]: s for s in ("train", "eval") for row in ingested.rows(s)}

    before, after = sides(tmp_path / "1", 12), sides(tmp_path / "2", 24)
    assert len(after) == 24
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "path, reason",
    [
        ("id0/empty.png", "empty file"),
        ("id1/text.jpg", "not an image"),
        ("id2/truncated.png", "not decodable as png"),
        ("id3/oversized.png", "oversized: 200x101 pixels, more than 20000"),
        ("loose.png", "lies at the top"),
    ],
)
def test_a_bad_file_is_quarantined_with_its_reason(damaged, path, reason):
    assert damaged.bad()[path].startswith(reason)


def test_a_run_goes_on_without_the_bad_files(damaged):
    assert damaged.count("quarantined") == len(damaged.bad()) == 5
    assert damaged.count("images") == 40
    assert len(damaged.rows("train")) + len(damaged.rows("eval")) == 40


def test_more_bad_files_than_allowed_stop_the_run_and_say_what_to_do(tmp_path):
    folder = _folder(tmp_path / "data", {"a": 2, "b": 2})
    (folder / "a" / "0.png").write_bytes(b"")
    message = (
        r"1 of 4 files \(25.0%\) are bad, more than max_quarantine_fraction=0.05 allows:"
        r" a/0.png: empty file; mend or remove them, or raise the limit"
    )
    with pytest.raises(errors.WorkError, match=message):
        _ingest(tmp_path, str(folder))


def test_a_split_that_lost_all_its_images_stops_the_run(tmp_path):
    folder = _folder(tmp_path / "data", {"a": 1, "b": 1})
    (folder / "a" / "0.png").write_bytes(b"")
    with pytest.raises(errors.WorkError, match="none is left for split"):
        _ingest(tmp_path, str(folder), max_quarantine_fraction=0.9)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_second_of_two_zip_entries_of_one_path_is_quarantined(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path, grey in (("a/1.png", 1), ("a/1.png", 2), ("b/1.png", 3)):
            archive.writestr(path, _png(grey))
    ingested = _ingest(tmp_path, str(tmp_path / "data.zip"), max_quarantine_fraction=0.5)
    assert ingested.bad() == {"a/1.png": "another file has the same path"}
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    assert {row[features.ENCODED] for row in rows} == {_png(1), _png(3)}


def test_identities_with_one_image_are_trained_on_or_answer(tmp_path):
    folder = _folder(tmp_path / "data", {f"id{number}": 1 for number in range(8)})
    ingested = _ingest(tmp_path, str(folder), eval_fraction=0.5)
    assert {row[features.SPLIT] for row in ingested.rows("train")} == {b"train"}
    assert {row[features.SPLIT] for row in ingested.rows("eval")} == {b"gallery"}


def test_a_pgm_is_kept_without_loss_as_png(tmp_path):
    folder = _folder(tmp_path / "data", {"a": 1})
    (folder / "b").mkdir()
    pixels = bytes(range(200, 230))
    (folder / "b" / "face.pgm").write_bytes(b"P5 6 5 255\n" + pixels)
    ingested = _ingest(tmp_path, str(folder))
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    row = next(row for row in rows if row[features.IDENTITY] == b"b")
    assert row[features.FORMAT] == b"png"
    assert tf.io.decode_png(row[features.ENCODED]).numpy().tobytes() == pixels


def test_the_layouts_own_splits_are_used_and_its_junk_is_no_bad_file(tmp_path):
    names = {
        "bounding_box_train/0002_c1s1_000451_03.jpg": b"train",
        "bounding_box_train/0003_c2s1_000451_03.jpg": b"train",
        "query/0007_c3s3_077419_00.jpg": b"query",
        "bounding_box_test/0007_c4s3_077419_00.jpg": b"gallery",
        "bounding_box_test/0000_c6s3_094992_01.jpg": b"gallery",
        "bounding_box_test/-1_c6s3_094992_02.jpg": None,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(_png(100))
    ingested = _ingest(tmp_path / "out", str(tmp_path), layout="market1501")
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    found = {row[features.PATH].decode(): row[features.SPLIT] for row in rows}
    assert found == {name: split for name, split in names.items() if split}
    assert {row[features.CAMERA] for row in ingested.rows("train")} == {1, 2}
    assert ingested.bad() == {list(names)[-1]: "junk by its name: identity -1"}
    assert (ingested.count("quarantined"), ingested.count("dropped")) == (0, 1)


def test_a_layout_without_training_images_is_a_usage_error(tmp_path):
    for name in ("query/0007_c3s3_0_00.jpg", "bounding_box_test/0008_c4s3_0_00.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(_png(100))
    with pytest.raises(errors.UsageError, match="no images for split 'train'"):
        _ingest(tmp_path / "out", str(tmp_path), layout="market1501")


@pytest.mark.parametrize("where, message", [("missing", "no such folder"), ("one", "one identity")])
def test_a_source_with_nothing_to_work_with_is_a_usage_error(tmp_path, where, message):
    _folder(tmp_path / "one", {"only": 3})
    with pytest.raises(errors.UsageError, match=message):
        _ingest(tmp_path / "out", str(tmp_path / where))


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"eval_fraction": 1.0}, "eval_fraction must be between 0 and 1, not 1.0"),
        ({"query_fraction": 0}, "query_fraction must be between 0 and 1, not 0.0"),
        ({"max_quarantine_fraction": 2}, "max_quarantine_fraction must be from 0 to 1, not 2.0"),
        ({"max_pixels": 0}, "max_pixels must be at least 1, not 0"),
        ({"span": -1}, "span must be at least 0, not -1"),
    ],
)
def test_a_parameter_out_of_range_is_named(tmp_path, parameters, message):
    with pytest.raises(errors.UsageError, match=message):
        _ingest(tmp_path, GLYPHS, **parameters)


def test_one_line_tells_what_was_ingested(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "longtail"):
        _ingest(tmp_path, GLYPHS)
    lines = [record.getMessage() for record in caplog.records if record.name == "longtail"]
    assert len(lines) == 1
    assert "33 images of 12 identities" in lines[0]


def test_tfx_finds_the_splits_by_its_own_means(glyphs):
    patterns = examples_utils.get_split_file_patterns([glyphs.examples], "train")
    assert len(tf.io.gfile.glob(patterns[0])) == 1


def _run_pipeline(root: pathlib.Path, source: str) -> list[int]:
    """Runs the component alone with a real MLMD; the states of all its executions so far."""
    made = component.ImageExampleGen(
        source=source, span=1, fingerprint=sources.fingerprint(source, span=1)
    )
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.db"))
    local_dag_runner.LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="ingestion",
            pipeline_root=str(root / "root"),
            components=[made],
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=BEAM,
        )
    )
    with metadata.Metadata(connection) as opened:
        return [execution.last_known_state for execution in opened.store.get_executions()]


def test_a_pipeline_ingests_again_only_when_a_file_has_changed(tmp_path):
    done, cached = (
        metadata_store_pb2.Execution.COMPLETE,
        metadata_store_pb2.Execution.CACHED,
    )
    folder = _folder(tmp_path / "data", {"a": 2, "b": 2})
    assert _run_pipeline(tmp_path, str(folder)) == [done]
    assert _run_pipeline(tmp_path, str(folder)) == [done, cached]
    (folder / "b" / "9.png").write_bytes(_png(9))
    assert _run_pipeline(tmp_path, str(folder)) == [done, cached, done]

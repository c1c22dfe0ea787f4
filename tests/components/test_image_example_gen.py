"""ImageExampleGen through a real Beam run on real files."""

import collections
import dataclasses
import logging
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from ml_metadata.proto import metadata_store_pb2
from tfx.components.util import examples_utils
from tfx.orchestration import metadata
from tfx.orchestration import pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.proto import example_gen_pb2

from longtail.components import config
from longtail.components.data import features
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.image_example_gen import component
from longtail.components.image_example_gen import executor
from longtail.components.image_example_gen import steps
from tests.components import ingestion


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory) -> ingestion.Ingested:
    return ingestion.ingest(tmp_path_factory.mktemp("glyphs"), ingestion.GLYPHS, span=4)


def test_every_image_of_the_source_is_in_exactly_one_split(glyphs):
    paths = [
        row[features.PATH].decode() for split in ("train", "eval") for row in glyphs.rows(split)
    ]
    assert sorted(paths) == [item.path for item in sources.open_source(ingestion.GLYPHS).items()]


def test_no_identity_is_in_both_splits(glyphs):
    train, held_out = (
        {row[features.IDENTITY] for row in glyphs.rows(split)} for split in ("train", "eval")
    )
    assert train and held_out
    assert not train & held_out


def test_every_feature_has_its_value(glyphs):
    source = sources.open_source(ingestion.GLYPHS, span=4)
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
        sources.fingerprint(ingestion.GLYPHS, span=4)
    )
    assert (glyphs.count("images"), glyphs.count("identities")) == (33, 12)
    assert glyphs.count("train_images") == len(glyphs.rows("train"))
    assert glyphs.count("eval_images") == len(glyphs.rows("eval"))
    assert glyphs.count("train_identities") + glyphs.count("eval_identities") == 12
    assert glyphs.count("quarantined") == 0


def test_the_same_data_gives_the_same_files_byte_for_byte(glyphs, tmp_path):
    assert ingestion.ingest(tmp_path, ingestion.GLYPHS, span=4).files() == glyphs.files()


def test_nothing_but_the_splits_and_who_is_in_them_is_left_behind(glyphs):
    assert {path.split("/")[0] for path in glyphs.files()} == {"Split-train", "Split-eval", "identities.json"}


def test_a_run_over_the_remains_of_another_leaves_none_of_them(tmp_path):
    remains = tmp_path / "examples" / "Split-train" / "data_tfrecord-00007-of-00009.gz"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half a file")
    assert (
        "Split-train/data_tfrecord-00007-of-00009.gz"
        not in ingestion.ingest(tmp_path, ingestion.GLYPHS).files()
    )


def test_many_images_are_spread_over_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "_IMAGES_A_SHARD", 5)
    ingested = ingestion.ingest(tmp_path, ingestion.GLYPHS)
    assert len([path for path in ingested.files() if path.startswith("Split-train")]) > 2
    assert len(ingested.rows("train")) + len(ingested.rows("eval")) == 33


def test_an_identity_stays_on_its_side_when_others_join(tmp_path):
    def sides(root: pathlib.Path, identities: int) -> dict[bytes, str]:
        source = f"glyphs:identities={identities},head=0,tail_images=2,size=16"
        ingested = ingestion.ingest(root, source)
        return {row[features.IDENTITY]: s for s in ("train", "eval") for row in ingested.rows(s)}

    before, after = sides(tmp_path / "1", 12), sides(tmp_path / "2", 24)
    assert len(after) == 24
    assert before.items() <= after.items()


def test_identities_with_one_image_are_trained_on_or_answer(tmp_path):
    counts = {f"id{number}": 1 for number in range(8)} | {f"more{number}": 2 for number in range(8)}
    ingested = ingestion.ingest(tmp_path, str(ingestion.folder(tmp_path / "data", counts)), eval_fraction=0.5)
    assert {row[features.SPLIT] for row in ingested.rows("train")} == {b"train"}
    alone = [row for row in ingested.rows("eval") if row[features.IDENTITY].startswith(b"id")]
    assert {row[features.SPLIT] for row in alone} == {b"gallery"}


def test_a_pgm_is_kept_without_loss_as_png(tmp_path):
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys("abcd", 2))
    pixels = bytes(range(200, 230))
    (folder / "b" / "face.pgm").write_bytes(b"P5 6 5 255\n" + pixels)
    ingested = ingestion.ingest(tmp_path, str(folder))
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    row = next(row for row in rows if row[features.PATH] == b"b/face.pgm")
    assert row[features.FORMAT] == b"png"
    assert tf.io.decode_png(row[features.ENCODED]).numpy().tobytes() == pixels


def test_one_line_tells_what_was_ingested(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "longtail"):
        ingestion.ingest(tmp_path, ingestion.GLYPHS)
    lines = [record.getMessage() for record in caplog.records if record.name == "longtail"]
    assert len(lines) == 1
    assert "33 images of 12 identities" in lines[0]


def test_tfx_finds_the_splits_by_its_own_means(glyphs):
    patterns = examples_utils.get_split_file_patterns([glyphs.examples], "train")
    assert len(tf.io.gfile.glob(patterns[0])) == 1


def _run_pipeline(root: pathlib.Path, source: str) -> list[int]:
    """Runs the component alone with a real MLMD; the states of all its executions so far."""
    settings = dataclasses.asdict(config.Reading(source=source))
    made = component.ImageExampleGen(span=1, fingerprint=sources.fingerprint(source, span=1), **settings)
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.db"))
    local_dag_runner.LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="ingestion",
            pipeline_root=str(root / "root"),
            components=[made],
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=ingestion.BEAM,
        )
    )
    with metadata.Metadata(connection) as opened:
        return [execution.last_known_state for execution in opened.store.get_executions()]


def test_a_pipeline_ingests_again_only_when_a_file_has_changed(tmp_path):
    done, cached = (
        metadata_store_pb2.Execution.COMPLETE,
        metadata_store_pb2.Execution.CACHED,
    )
    folder = ingestion.folder(tmp_path / "data", dict.fromkeys("abcd", 2))
    assert _run_pipeline(tmp_path, str(folder)) == [done]
    assert _run_pipeline(tmp_path, str(folder)) == [done, cached]
    (folder / "b" / "9.png").write_bytes(ingestion.png(9))
    assert _run_pipeline(tmp_path, str(folder)) == [done, cached, done]


def test_the_layouts_own_splits_are_used_and_its_junk_is_no_bad_file(tmp_path):
    names = {
        "bounding_box_train/0002_c1s1_000451_03.jpg": b"train",
        "bounding_box_train/0003_c2s1_000451_03.jpg": b"train",
        "query/0007_c3s3_077419_00.jpg": b"query",
        "query/0008_c3s3_077419_00.jpg": b"query",
        "bounding_box_test/0008_c4s3_077419_00.jpg": b"gallery",
        "bounding_box_test/0007_c4s3_077419_00.jpg": b"gallery",
        "bounding_box_test/0000_c6s3_094992_01.jpg": b"gallery",
        "bounding_box_test/-1_c6s3_094992_02.jpg": None,
    }
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(ingestion.png(100))
    ingested = ingestion.ingest(tmp_path / "out", str(tmp_path), layout="market1501")
    rows = [*ingested.rows("train"), *ingested.rows("eval")]
    found = {row[features.PATH].decode(): row[features.SPLIT] for row in rows}
    assert found == {name: split for name, split in names.items() if split}
    assert {row[features.CAMERA] for row in ingested.rows("train")} == {1, 2}
    assert ingested.bad() == {list(names)[-1]: "junk by its name: identity -1"}
    assert (ingested.count("quarantined"), ingested.count("dropped")) == (0, 1)


@pytest.mark.parametrize("size", [(1, 1), (300, 200)])
def test_an_example_that_is_put_together_is_as_protobuf_writes_it(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    image = images.check(tf.io.encode_png(noise).numpy(), 10**6)
    made = steps.with_split(steps.features_of(sources.Item("a/1.png", "a"), image, "0" * 64), b"query")
    assert made == tf.train.Example.FromString(made).SerializeToString(deterministic=True)
    assert tf.train.Example.FromString(made).features.feature["split"].bytes_list.value[:] == [b"query"]

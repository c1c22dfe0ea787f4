"""Evaluator, pusher and gallery builder wired as a TFX pipeline, on a real metadata store."""

import dataclasses
import json
import os

import tfx
from tfx.dsl.components.common import importer
from tfx.orchestration import metadata
from tfx.orchestration import pipeline
from tfx.orchestration.local import local_dag_runner
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components.gallery_builder import component as gallery_builder
from longtail.components.pusher import component as pusher
from longtail.components.retrieval_evaluator import component as retrieval_evaluator
from tests.components import examples

# Of two identities; 24 images each make 576 pairs of different ones, which support a rate of 0.1 but not less.
MANY = [
    (f"{one},{other + number / 100}".encode(), name, split)
    for name, one, other in (("a", 1.0, 0.1), ("b", 0.1, 1.0))
    for number in range(24)
    for split in ("query" if number % 2 else "gallery",)
]
ROWS = [
    (b"1,0", "a", "query"),
    (b"0.9,0.1", "a", "gallery"),
    (b"0,1", "b", "query"),
    (b"0.1,0.9", "b", "gallery"),
]


def _import(name, artifact_type, uri, **properties):
    # The version tells TFX the layout of the folder; its own components record it.
    version = {"tfx_version": tfx.__version__}
    node = importer.Importer(uri, artifact_type, properties=properties, custom_properties=version)
    return node.with_id(name)


def _run(folder, window_uri, model_uri):
    window = _import("window", artifacts.SpanWindow, window_uri)
    model = _import("model", standard_artifacts.Model, model_uri)
    settings = {**dataclasses.asdict(config.Evaluation()), "floor_map": 0.9, "head_threshold": 5}
    whose = settings.pop("gallery")
    evaluator = retrieval_evaluator.RetrievalEvaluator(
        window.outputs["result"], model.outputs["result"], baseline_model=None, **settings
    )
    destination = pusher_pb2.PushDestination.Filesystem(base_directory=str(folder / "served"))
    push = pusher.Pusher(
        model=model.outputs["result"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(filesystem=destination),
        evaluation=evaluator.outputs["evaluation"],
    )
    builder = gallery_builder.GalleryBuilder(
        window.outputs["result"],
        push.outputs["pushed_model"],
        str(folder / "galleries"),
        "glyphs",
        whose,
    )
    database = metadata.sqlite_metadata_connection_config(str(folder / "mlmd.sqlite"))
    local_dag_runner.LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="ship",
            pipeline_root=str(folder / "root"),
            components=[window, model, evaluator, push, builder],
            metadata_connection_config=database,
            beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
        )
    )


def window_of(folder, examples_artifact):
    [made] = examples.window(folder / "window", examples_artifact)
    return made.uri


def test_a_blessed_model_gets_a_gallery_of_its_own_version(tmp_path, eval_examples, vector_model):
    _run(tmp_path, window_of(tmp_path, eval_examples(ROWS)), os.path.dirname(vector_model()))
    (version,) = os.listdir(tmp_path / "served")
    card = json.loads((tmp_path / "galleries" / version / "gallery.json").read_text())
    assert (card["model_version"], card["count"], card["thresholds"]) == (int(version), 2, [])


def test_a_gallery_has_the_thresholds_of_the_version_that_built_it(tmp_path, eval_examples, vector_model):
    _run(tmp_path, window_of(tmp_path, eval_examples(MANY)), os.path.dirname(vector_model()))
    (version,) = os.listdir(tmp_path / "served")
    card = json.loads((tmp_path / "galleries" / version / "gallery.json").read_text())
    beside = json.loads((tmp_path / "served" / version / "assets.extra" / "thresholds.json").read_text())
    assert [one["fmr"] for one in card["thresholds"]] == [0.1]
    assert card["thresholds"] == beside["thresholds"]


def test_a_model_that_is_not_blessed_ends_well_and_ships_nothing(
    tmp_path, eval_examples, vector_model
):
    crossed = [*ROWS[::2], (b"0.9,0.1", "b", "gallery"), (b"0.1,0.9", "a", "gallery")]
    _run(tmp_path, window_of(tmp_path, eval_examples(crossed)), os.path.dirname(vector_model()))
    assert not (tmp_path / "served").exists()
    assert not (tmp_path / "galleries").exists()

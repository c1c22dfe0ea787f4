"""A compiled pipeline rehearsed gives what `longtail run` gives; drift stops it; killed, it goes on."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
import tensorflow as tf
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from tests.e2e import runs

ROOT = "gs://bucket/longtail"  # rehearsed, a folder of the rehearsal stands in for it


@pytest.fixture(scope="module")
def work_dir(finished, tmp_path_factory):
    """Spans, the second inverted, and the compiled pipeline."""
    folder = tmp_path_factory.mktemp("rehearse")
    (folder / "data").symlink_to(finished / "data")
    words = ("compile", "--recipe", runs.RECIPE, "--image", "registry.example/longtail:1", "--pipeline-root", ROOT)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert runs.longtail(monkeypatch, *words, "--output", folder / "pipeline.yaml") == 0
    return folder


def words_of(work_dir, root, *params):
    given = (f"data={work_dir}/data/span-{{SPAN}}", *params)
    words = ["rehearse", str(work_dir / "pipeline.yaml"), "--root", str(work_dir / root), "--json"]
    return [*words, *(word for param in given for word in ("--param", param))]


@pytest.fixture
def rehearse(work_dir, monkeypatch, capfd):
    """Rehearses in a root; gives exit status, record and what was said."""

    def run(root, *params):
        status = runs.longtail(monkeypatch, *words_of(work_dir, root, *params))
        said = capfd.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    return run


@pytest.fixture(scope="module")
def rehearsed(work_dir):
    """The record of a rehearsal of the first span."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert runs.longtail(monkeypatch, *words_of(work_dir, "root")) == 0
    [folder] = (work_dir / "root" / "rehearsals").iterdir()
    return json.loads((folder / "run.json").read_text())


def outputs(record, step, key):
    [artifact] = record["steps"][step]["outputs"]["artifacts"][key]
    return artifact


def versions(work_dir, root):
    return sorted(path.name for path in (work_dir / root / "store" / "models" / "small").glob("[0-9]*"))


def embeddings(work_dir, model):
    files = sorted((work_dir / "data" / "span-1").rglob("*.png"))[:64]
    images = tf.constant([path.read_bytes() for path in files])
    return tf.saved_model.load(model).signatures["serving_default"](images)["embedding"].numpy()


def scores(metrics):
    return {key: value for key, value in metrics.items() if isinstance(value, float)}


def test_a_rehearsed_model_is_the_model_of_a_local_run(work_dir, rehearsed, finished):
    local = json.loads((finished / "kept" / "summary.json").read_text())
    [model] = (finished / "kept" / "models" / "small").iterdir()
    pushed = outputs(rehearsed, "Pusher", "pushed_model")["metadata"]["pushed_destination"]
    assert versions(work_dir, "root") == [os.path.basename(pushed)]
    ours, theirs = embeddings(work_dir, pushed), embeddings(work_dir, str(model))
    assert ours.shape == (64, 32) and abs(ours - theirs).max() <= 1e-5
    evaluation = pathlib.Path(outputs(rehearsed, "RetrievalEvaluator", "evaluation")["uri"])
    scored = json.loads((evaluation / "metrics.json").read_text())["candidate"]
    for slice_ in (lambda found: found, lambda found: found["head"], lambda found: found["tail"]):
        assert scores(slice_(scored)) == pytest.approx(scores(slice_(local["metrics"])), abs=1e-5)
    assert scores(scored)


def test_every_step_makes_artifacts_of_the_same_types(rehearsed, finished):
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(finished / "kept" / "metadata.sqlite")
    store = metadata_store.MetadataStore(config)
    types = {kind.id: kind.name for kind in store.get_artifact_types()}
    made = {}
    for context in store.get_contexts_by_type("node"):
        [execution] = store.get_executions_by_context(context.id)
        events = [e for e in store.get_events_by_execution_ids([execution.id]) if e.type == e.OUTPUT]
        kinds = {artifact.id: types[artifact.type_id] for artifact in store.get_artifacts_by_context(context.id)}
        name = context.name.rpartition(".")[2]
        made[name] = {event.path.steps[0].key: kinds[event.artifact_id] for event in events}
    assert set(made) == set(rehearsed["steps"])
    for name, step in rehearsed["steps"].items():
        found = {key: ir.title(one["type"]) for key, [one] in step["outputs"]["artifacts"].items()}
        assert found.pop(driver.LOGS) == "system.Artifact", "Kubeflow's own"
        assert {key: title.removeprefix("tfx.") for key, title in found.items()} == made[name], name


def test_a_drifted_span_stops_the_rehearsal_at_the_gate(rehearse, rehearsed, work_dir):
    before = versions(work_dir, "root")
    status, record, said = rehearse("root", "span=2")
    assert status == 1 and record["failed"] == "DriftGate" and len(before) == 1
    assert "Trainer" not in record["steps"] and versions(work_dir, "root") == before
    [line] = [line for line in said.splitlines() if line.startswith("longtail: error: DriftGate: ")]
    assert "drift" in line and record["steps"]["DriftGate"]["log"] in line


def test_a_rehearsal_killed_while_training_goes_on_and_pushes_once(rehearse, rehearsed, work_dir, processes):
    words, before = words_of(work_dir, "root", "training_epochs=16"), versions(work_dir, "root")
    with processes.popen("longtail.pipeline.cli", *words, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if re.search(r"epoch 3/16", line):
                break
        process.kill()
        assert process.wait() == -signal.SIGKILL
    folder = max((work_dir / "root" / "rehearsals").iterdir())
    cut = json.loads((folder / "run.json").read_text())
    assert cut["steps"]["Trainer"]["state"] == "RUNNING" and os.path.exists(cut["steps"]["Trainer"]["root"])

    status, record, said = rehearse("root", "training_epochs=16")
    assert status == 0 and record["run_id"] == cut["run_id"], said
    assert {step["state"] for step in record["steps"].values()} == {"COMPLETE", "CACHED"}
    kept = set(cut["steps"]) - {"Trainer"}
    assert kept == set(record["steps"]) - {"Trainer", "RetrievalEvaluator", "Pusher", "GalleryBuilder"}
    assert all(record["steps"][name] == cut["steps"][name] for name in kept)
    assert not os.path.exists(cut["steps"]["Trainer"]["root"])
    assert len(list((work_dir / "root" / "store" / "longtail-small" / cut["run_id"] / "Trainer").iterdir())) == 1
    assert "going on after epoch" in said and "epoch 1/16" not in said
    assert len(versions(work_dir, "root")) == len(before) + 1


def test_a_second_span_is_trained_on_with_the_first_and_scored_on_each(rehearse, rehearsed, work_dir):
    status, record, said = rehearse("root", "span=3", "training_epochs=1")
    assert status == 0, said
    window = pathlib.Path(outputs(record, "SpanWindow", "window")["uri"], "window.json")
    assert [one["span"] for one in json.loads(window.read_text())["spans"]] == [1, 3]
    metrics = pathlib.Path(outputs(record, "RetrievalEvaluator", "evaluation")["uri"], "metrics.json")
    assert [one["span"] for one in json.loads(metrics.read_text())["by_span"]] == [1, 3]

"""Four spans through the whole pipeline, with real Beam and a real MLMD: first, again, drifted, clean."""

import json
import pathlib
import shutil

import pytest
import tensorflow as tf
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from longtail.models.export import signatures
from tests.e2e import runs


@pytest.fixture(scope="module")
def work_dir(finished):
    """The folder in whose `root` the first span is done."""
    return finished


@pytest.fixture
def run(work_dir, monkeypatch, capfd):
    """Runs a span; gives exit status, summary and what was said on standard error."""

    def run_span(number, *more, root=work_dir / "root"):
        data = f"{work_dir}/data/span-{{SPAN}}"
        words = ("--recipe", runs.RECIPE, "--data", data, "--root", root, "--span", number, "--json")
        status = runs.longtail(monkeypatch, "run", *words, *more)
        said = capfd.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    return run_span


def versions(work_dir):
    return sorted(path.name for path in (work_dir / "root" / "models" / "small").glob("*"))


def store_of(work_dir):
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(work_dir / "root" / "metadata.sqlite")
    return metadata_store.MetadataStore(config)


def executions(work_dir):
    return {(e.id, e.last_known_state) for e in store_of(work_dir).get_executions()}


def report_on(work_dir, span):
    path = work_dir / "root" / "registry" / "small" / "drift" / f"span-{span:08d}.json"
    return json.loads(path.read_text())


def test_first_span_is_accepted_blessed_pushed_and_searchable(work_dir):
    summary, said = json.loads((work_dir / "summary.json").read_text()), (work_dir / "said").read_text()
    assert summary == json.loads((work_dir / "root" / "summary.json").read_text())
    assert summary["blessed"] and summary["baseline"] is None
    assert summary["examples"]["train"] > summary["examples"]["trained_on"] > 0
    assert summary["metrics"]["head"]["queries"] and summary["metrics"]["tail"]["queries"]
    assert 0 < summary["metrics"]["mAP"] <= 1
    assert "epoch 6/6" in said and "cloud vanilla" in said
    [version] = versions(work_dir)
    model = tf.saved_model.load(str(work_dir / "root" / "models" / "small" / version))
    asked = {name for name in model.signatures if not name.startswith("__saved_model_")}  # TensorFlow's own
    assert asked == {signatures.SERVING, signatures.PIXELS}
    gallery = work_dir / "root" / "galleries" / "small" / version
    assert {path.name for path in gallery.iterdir()} == {
        signatures.GALLERY_INDEX,
        signatures.GALLERY_ITEMS,
        signatures.GALLERY_CARD,
    }


def test_the_same_span_again_is_answered_by_the_cache_alone_by_a_link_to_its_root_too(run, work_dir, tmp_path):
    (tmp_path / "link").symlink_to(work_dir / "root")
    status, summary, _ = run(1, root=tmp_path / "link")
    assert status == 0
    assert summary["cached"] == list(summary["seconds"]) and not any(summary["seconds"].values())
    assert len(versions(work_dir)) == 1


def test_a_drifted_span_is_stopped_with_its_features_named_and_nothing_trained_or_pushed(run, work_dir):
    before, known = versions(work_dir), executions(work_dir)
    status, summary, said = run(2)
    assert status == 1 and summary is None
    [error] = [line for line in said.splitlines() if line.startswith("longtail: error:")]
    assert "span 2" in error and "image/brightness" in error and "image/ink" in error
    assert versions(work_dir) == before
    new = executions(work_dir) - known
    assert [state for _, state in new].count(metadata_store_pb2.Execution.FAILED) == 1
    assert "Trainer ..." not in said and "Rebalancer ..." not in said


def test_a_clean_span_afterwards_is_compared_with_the_last_accepted_one_and_the_last_blessed_model(run, work_dir):
    status, summary, said = run(3)
    assert status == 0, said
    report = report_on(work_dir, 3)
    assert report["verdict"] == "accepted" and report["baseline_span"] == 1
    assert {row["verdict"] for row in report["features"] if row["kind"] == "embedding"} == {"ok"}
    assert summary["baseline"] is not None
    assert summary["blessed"] and len(versions(work_dir)) == 2


def test_an_old_span_that_is_run_again_names_its_own_version_and_the_one_that_is_served(run, work_dir):
    status, summary, said = run(1)
    assert status == 0, said
    old, new = versions(work_dir)
    assert (summary["span"], str(summary["version"])) == (1, old) and summary["pushed_model"].endswith(old)
    assert summary["served"] == {"version": int(new), "span": 3}


def test_a_model_that_is_gone_is_pushed_again_and_found_where_the_summary_says(run, work_dir):
    shutil.rmtree(work_dir / "root" / "models")
    status, summary, said = run(3)
    assert status == 0, said
    assert set(summary["cached"]) == set(summary["seconds"]) - {"Pusher", "GalleryBuilder"}
    assert pathlib.Path(summary["pushed_model"]).is_dir()
    assert versions(work_dir) == [pathlib.Path(summary["pushed_model"]).name]


def test_a_model_below_its_floor_is_not_pushed_and_ends_with_status_1(run, work_dir):
    before = versions(work_dir)
    status, summary, said = run(3, "--set", "evaluation.floor_map=1.0")
    assert status == 1 and "not blessed" in said and versions(work_dir) == before
    assert summary is None or not summary["blessed"]
    assert not json.loads((work_dir / "root" / "summary.json").read_text())["blessed"]


def test_retrying_the_drifted_span_is_stopped_again(run, work_dir):
    status, _, said = run(2)
    assert status == 1 and "stopped by the drift gate" in said


def test_a_reason_lets_the_drifted_span_through_and_stays_in_the_metadata_store(run, work_dir):
    status, summary, said = run(2, "--accept-drift", "the scanner was replaced", "--set", "training.epochs=1")
    assert status == 0 and summary["blessed"] and "stopped by the drift gate" not in said
    [blessing] = [
        one
        for one in store_of(work_dir).get_artifacts_by_type("longtail.DataBlessing")
        if one.custom_properties["span"].int_value == 2 and one.state == metadata_store_pb2.Artifact.LIVE
    ]
    assert blessing.custom_properties["accept_drift"].string_value == "the scanner was replaced"
    assert blessing.custom_properties["verdict"].string_value == "overridden"
    assert report_on(work_dir, 2)["accept_drift"] == "the scanner was replaced"

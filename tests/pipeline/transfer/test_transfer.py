"""`longtail transfer` on what a training left: figures beside the paper's, pictures, and what is refused."""

import hashlib
import io
import json

import numpy as np
import pytest
import tensorflow as tf
import typer.testing
from PIL import Image

from longtail.components.data import features
from longtail.models import errors
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.pipeline.cli import transfer
from tests.models.feature_transfer import test_alternation
from tests.models.training import test_loop

NAMES = [f"class {label}" for label in range(5)]


def write_examples(folder, images):
    (folder / "Split-train").mkdir(parents=True)
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(folder / "Split-train" / "data-0.gz"), options) as writer:
        for encoded, label in zip(images.encoded, images.class_ids, strict=True):
            values = {features.ENCODED: encoded, features.IDENTITY: NAMES[label].encode()}
            example = tf.train.Example()
            for key, value in values.items():
                example.features.feature[key].bytes_list.value.append(value)
            writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root as a run leaves it: twelve images of five identities, of which two are trained on nine, three on two."""
    folder = tmp_path_factory.mktemp("root")
    images = test_loop.data(classes=5, per_class=12)
    write_examples(folder / "examples", images)
    rank = np.arange(len(images.class_ids)) % 12
    kept = rank < np.where(images.class_ids < 2, 9, 2)
    trained = training_data.TrainingSet(images.encoded[kept], images.class_ids[kept], np.array([9, 9, 2, 2, 2]))
    config = test_alternation.config(transfer=test_alternation.ONCE)
    places = (str(folder / "checkpoints"), str(folder / "model"))
    (folder / "checkpoints").mkdir()
    loop.train_and_export(config, trained, test_alternation.DECODE, *places, None, {}, str(folder / "run"), NAMES)
    artifacts = {"examples": str(folder / "examples"), "model_run": str(folder / "run")}
    (folder / "summary.json").write_text(json.dumps({"pushed_model": "somewhere", "artifacts": artifacts}))
    return folder


def run(root, name, *arguments):
    """What a command prints as JSON, and its picture."""
    asked = [name, "--root", str(root), "--json", *arguments]
    answer = typer.testing.CliRunner().invoke(transfer.app, asked, catch_exceptions=False)
    assert answer.exit_code == 0
    figures = json.loads(answer.stdout)
    with open(figures["png"], "rb") as file:
        return figures, Image.open(io.BytesIO(file.read()))


def test_the_training_leaves_what_it_trained_on_beside_the_model_and_nothing_of_it_within(root):
    assert (root / "run" / "feature_transfer" / "known.json").exists()
    assert not list((root / "model").rglob("known*"))
    words = json.loads((root / "run" / "feature_transfer" / "known.json").read_text())
    assert len(words["trained"]) == 24 and len(words["trained"][0]) == len(hashlib.sha256().hexdigest())


def test_norms_are_told_of_head_and_tail_beside_the_papers(root):
    figures, _ = run(root, "norms")
    assert figures["classes"] == {"head": 2, "tail": 3}
    assert figures["head"] > 0 and figures["tail"] > 0 and figures["paper"]["tail"]["transfer"] == 0.27


def test_closed_is_of_the_images_that_were_not_trained_on(root):
    figures, _ = run(root, "closed")
    assert (figures["head"]["images"], figures["tail"]["images"]) == (6, 30)
    assert 0.0 <= figures["tail"]["nearest"] <= 1.0


def test_a_centre_of_more_images_lies_nearer_to_that_of_all(root):
    figures, _ = run(root, "centres")
    assert [one["images"] for one in figures["centres"]] == [1, 3, 5, 10]
    assert figures["centres"][-1]["average_all"] < figures["centres"][0]["average_all"]


def test_oneshot_tells_base_rank_and_novel_coverage(root):
    figures, _ = run(root, "oneshot")
    assert figures["novel_images_a_class"] == 2.0
    assert 0.0 <= figures["novel_coverage"] <= 1.0 and 0.0 <= figures["base_rank1"] <= 1.0


def test_show_draws_a_sheet_of_images(root):
    figures, picture = run(root, "show", "--seed", "1")
    assert 1 <= figures["directions"] <= figures["of"] == 16
    assert picture.height > 20 * 16 and np.asarray(picture).std() > 10


def test_a_root_without_a_filtered_embedder_is_refused_in_one_line(tmp_path):
    summary = {"pushed_model": "somewhere", "artifacts": {"examples": "x", "model_run": str(tmp_path)}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(errors.UsageError, match="^--root [^\n]*run a recipe with model.filter true$"):
        transfer.norms(str(tmp_path))


def test_a_folder_that_is_no_root_is_refused_in_one_line(tmp_path):
    with pytest.raises(errors.UsageError, match="^--root [^\n]*$"):
        transfer.closed(str(tmp_path))

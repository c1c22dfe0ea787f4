"""What serving was asked about is compared with what is to be trained on, in the run itself."""

import io
import shutil

import pytest
import tensorflow as tf
from PIL import Image

from longtail.models.export import signatures
from longtail.serving.model_server import request_log
from tests.e2e import runs


class Answered:
    """What the log is told of the model that answered."""

    name, version = "small", 1


def log_requests(folder, images):
    log = request_log.RequestLog(request_log.Options(str(folder)))
    log.start()
    log.offer(Answered(), lambda: request_log.of_tensors("", {signatures.IMAGE_BYTES: tf.constant(images)}))
    log.stop(60)


def darkened(path):
    file = io.BytesIO()
    Image.open(path).point(lambda value: int(0.4 * value)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def root(finished, tmp_path):
    """A root in which no span was accepted and no model pushed; it holds what was ingested once."""
    return shutil.copytree(finished / "kept", tmp_path / "root", ignore=shutil.ignore_patterns("registry", "models"))


def test_a_run_stops_on_skew_and_names_it_so_although_no_span_was_accepted_before(
    finished, root, tmp_path, monkeypatch, capfd
):
    paths = sorted((finished / "data" / "span-1").rglob("*.png"))
    log_requests(tmp_path / "log", [darkened(path) for path in paths])
    words = ("run", "--recipe", runs.RECIPE, "--data", finished / "data" / "span-{SPAN}", "--root", root)
    assert runs.longtail(monkeypatch, *words, "--request-log", tmp_path / "log") == 1
    said = capfd.readouterr().err
    [error] = [line for line in said.splitlines() if line.startswith("longtail: error:")]
    assert "span 1 shows skew to what serving is asked about in" in error and "image/brightness" in error
    assert "DriftGate ..." in said and "Trainer ..." not in said


def test_a_request_log_without_a_file_is_bad_usage_before_anything_is_made(finished, tmp_path, monkeypatch, capfd):
    words = ("run", "--recipe", runs.RECIPE, "--data", finished / "data" / "span-{SPAN}", "--root", tmp_path / "root")
    assert runs.longtail(monkeypatch, *words, "--request-log", tmp_path / "none") == 2
    [line] = capfd.readouterr().err.strip().splitlines()
    assert "is no folder" in line and not (tmp_path / "root").exists()

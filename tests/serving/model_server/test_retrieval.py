"""The server answers "who is this" from a gallery of the model it serves."""

import base64

import httpx
import numpy as np
import pytest
import tensorflow as tf

from serving import errors
from serving.model_server import loader
from serving.model_server import request_errors
from serving.model_server import retrieval
from serving.model_server import server as server_lib
from tests.serving import conftest


@pytest.fixture
def gallery_folder(tmp_path, in_process):
    folder = tmp_path / "gallery"
    conftest.write_gallery(folder, in_process([conftest.encode(seed) for seed in range(4)]))
    return folder


@pytest.fixture
def source(model_folder):
    loaded = loader.ModelSource("tiny", str(model_folder))
    loaded.poll()
    return loaded


@pytest.fixture
def served(source, gallery_folder):
    return retrieval.Retrieval(source, str(gallery_folder))


def instances(*images):
    return {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]}


def test_an_image_of_the_gallery_is_found_over_rest(tiny_saved_model, gallery_folder):
    options = server_lib.Options(str(tiny_saved_model), gallery=str(gallery_folder), grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as server:
        reply = httpx.post(
            f"http://{server.rest_address}/v1/gallery:identify",
            json={**instances(conftest.encode(2)), "k": 2},
            trust_env=False,
        ).json()
    matches = reply["predictions"][0]["matches"]
    assert [len(matches), matches[0]["identity"], reply["note"]] == [2, "person 2", None]
    assert matches[0]["similarity"] == pytest.approx(1.0, abs=1e-5)


def test_a_broken_image_has_no_matches_and_its_status(served):
    rows = served.identify(instances(b"no image", conftest.encode(1)))["predictions"]
    assert [(row["status"], bool(row["matches"])) for row in rows] == [(1, False), (0, True)]


def test_five_matches_or_all_there_are_without_k(served):
    [row] = served.identify(instances(conftest.encode(0)))["predictions"]
    assert len(row["matches"]) == 4


def test_a_k_that_is_no_count_is_refused(served):
    for k in (0, -1, 1.5, "2", True, None):
        with pytest.raises(request_errors.RequestError, match="'k' must be a whole number"):
            served.identify({**instances(b"x"), "k": k})


def test_a_gallery_of_another_model_version_is_told_in_the_answer(source, gallery_folder, model_folder, served):
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    reply = served.identify(instances(conftest.encode(0)))
    assert reply["model"]["version"] == 2 and reply["gallery"]["model_version"] == 1
    assert "built by model tiny version 1" in reply["note"]


def test_a_new_gallery_is_taken_up(served, gallery_folder):
    conftest.write_gallery(gallery_folder, np.eye(8), version=2)
    served.poll()
    assert served.identify(instances(conftest.encode(0)))["gallery"]["version"] == 2


def test_a_broken_new_gallery_is_told_once_and_the_old_one_answers_on(served, gallery_folder, caplog):
    conftest.write_gallery(gallery_folder, np.eye(8), version=2, count=99)
    served.poll()
    served.poll()
    assert served.identify(instances(conftest.encode(0)))["gallery"]["version"] == 1
    assert sum("says 99 images" in record.message for record in caplog.records) == 1


def test_a_gallery_of_another_dimension_does_not_start(source, tmp_path):
    conftest.write_gallery(tmp_path / "other", np.eye(5))
    with pytest.raises(errors.UsageError, match="5-d embeddings, model tiny version 1 makes 8-d"):
        retrieval.Retrieval(source, str(tmp_path / "other"))


class Doubler(tf.Module):
    """A model that is no embedder."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def double(self, x):
        return {"y": 2 * x}


def test_a_model_that_is_no_embedder_has_no_gallery(tmp_path):
    module = Doubler()
    tf.saved_model.save(module, str(tmp_path / "doubler" / "1"), signatures=module.double)
    conftest.write_gallery(tmp_path / "gallery", np.eye(8))
    source = loader.ModelSource("doubler", str(tmp_path / "doubler"))
    source.poll()
    with pytest.raises(errors.UsageError, match="does not turn image_bytes into embedding"):
        retrieval.Retrieval(source, str(tmp_path / "gallery"))

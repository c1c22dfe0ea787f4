"""The server answers "who is this" from a gallery of the model it serves."""

import base64
import shutil
import threading

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2

from longtail.models import errors
from longtail.serving import retrieval
from longtail.serving.model_server import server as server_lib
from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import request_errors
from tests.serving import conftest

STATE = get_model_status_pb2.ModelVersionStatus


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
    assert [len(matches), matches[0]["identity"]] == [2, "person 2"]
    assert matches[0]["similarity"] == pytest.approx(1.0, abs=1e-5)


def test_a_broken_image_has_no_matches_and_its_status(served):
    rows = served.identify(instances(b"no image", conftest.encode(1)))["predictions"]
    assert [(row["status"], bool(row["matches"])) for row in rows] == [(1, False), (0, True)]


def test_five_matches_or_all_there_are_without_k(served):
    [row] = served.identify(instances(conftest.encode(0)))["predictions"]
    assert len(row["matches"]) == 4


def test_a_k_that_is_no_count_is_refused(served):
    nested: list = []
    for _ in range(2000):
        nested = [nested]
    for k in (0, -1, 1.5, "2", True, None, nested):
        with pytest.raises(request_errors.RequestError, match="'k' must be a whole number"):
            served.identify({**instances(b"x"), "k": k})


def answer(served, seed=0):
    """Who the image of `seed` is, how surely, and which versions say so: of the model, of the gallery's model."""
    reply = served.identify(instances(conftest.encode(seed)))
    best = reply["predictions"][0]["matches"][0]
    return best["identity"], round(best["similarity"], 4), reply["model"]["version"], reply["gallery"]["model_version"]


@pytest.fixture
def write_next_gallery(gallery_folder, retrained_in_process):
    """Writes the gallery of version 2 of the model, which is `conftest`'s retrained one."""
    vectors = retrained_in_process([conftest.encode(seed) for seed in range(4)])
    return lambda **card: conftest.write_gallery(gallery_folder, vectors, **{"version": 2, "model_version": 2, **card})


@pytest.fixture
def push_next(model_folder, retrained_saved_model):
    return lambda: conftest.push(retrained_saved_model / "2", model_folder, 2)


def refusal(served):
    with pytest.raises(request_errors.RequestError) as raised:
        served.identify(instances(conftest.encode(0)))
    assert raised.value.code == grpc.StatusCode.FAILED_PRECONDITION and "\n" not in raised.value.message
    return raised.value.message


def test_between_a_push_and_its_gallery_the_version_of_the_old_gallery_answers(source, served, push_next):
    push_next()
    source.poll()
    served.poll()
    assert source.get().version == 2
    assert answer(served) == ("person 0", 1.0, 1, 1)


def test_gallery_and_version_are_swapped_together(source, served, push_next, write_next_gallery):
    push_next()
    source.poll()
    write_next_gallery()
    served.poll()
    assert answer(served) == ("person 0", 1.0, 2, 2)


def test_the_old_version_answers_by_its_number_until_the_new_gallery_is_there(
    source, served, push_next, write_next_gallery
):
    push_next()
    source.poll()
    served.poll()
    assert source.get(1).version == 1
    write_next_gallery()
    served.poll()
    with pytest.raises(request_errors.RequestError, match="Specific.tiny, 1"):
        source.get(1)


def test_no_answer_mixes_versions_while_a_model_and_its_gallery_are_pushed(
    model_folder, gallery_folder, push_next, write_next_gallery
):
    options = server_lib.Options(str(model_folder), gallery=str(gallery_folder), grpc_port=0, rest_port=0, poll_s=0.01)
    answers, failures, done, both_seen = [], [], threading.Event(), threading.Event()
    with server_lib.ModelServer(options) as server, httpx.Client(trust_env=False, timeout=60) as rest:

        def ask():
            while not done.is_set():
                reply = rest.post(
                    f"http://{server.rest_address}/v1/gallery:identify", json=instances(conftest.encode(3))
                )
                if reply.status_code != 200:
                    failures.append(reply.text)
                    return both_seen.set()
                [row] = reply.json()["predictions"]
                best, version = row["matches"][0], reply.json()["model"]["version"]
                answers.append((version, best["identity"], round(best["similarity"], 4)))
                if version == 2:
                    both_seen.set()

        asking = threading.Thread(target=ask)
        asking.start()
        push_next()
        assert server.source.wait_for(2, STATE.AVAILABLE, timeout_s=120)
        write_next_gallery()
        assert both_seen.wait(timeout=120)
        done.set()
        asking.join()
    assert not failures and set(answers) == {(1, "person 3", 1.0), (2, "person 3", 1.0)}


def test_at_the_start_the_version_that_built_the_gallery_is_loaded_beside_the_latest(
    model_folder, gallery_folder, push_next
):
    push_next()
    source = loader.ModelSource("tiny", str(model_folder))
    source.poll()
    served = retrieval.Retrieval(source, str(gallery_folder))
    assert answer(served) == ("person 0", 1.0, 1, 1) and source.get().version == 2


@pytest.mark.parametrize("break_it", [shutil.rmtree, lambda folder: (folder / "saved_model.pb").write_bytes(b"no")])
def test_a_gallery_whose_version_is_not_there_or_broken_refuses_and_names_both_versions(
    model_folder, gallery_folder, push_next, break_it
):
    push_next()
    break_it(model_folder / "1")
    source = loader.ModelSource("tiny", str(model_folder))
    source.poll()
    line = refusal(retrieval.Retrieval(source, str(gallery_folder)))
    assert "built by model tiny version 1" in line and "only tiny version 2" in line


def test_a_refused_gallery_is_refused_over_rest_while_the_model_serves_on(model_folder, gallery_folder, push_next):
    push_next()
    shutil.rmtree(model_folder / "1")
    options = server_lib.Options(str(model_folder), gallery=str(gallery_folder), grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as server, httpx.Client(trust_env=False, timeout=60) as rest:
        base = f"http://{server.rest_address}/v1"
        refused = rest.post(f"{base}/gallery:identify", json=instances(conftest.encode(0)))
        answered = rest.post(f"{base}/models/tiny:predict", json=instances(conftest.encode(0)))
    assert (refused.status_code, answered.status_code) == (400, 200)
    assert "built by model tiny version 1" in refused.json()["error"]


def test_a_gallery_waits_for_its_version_and_is_taken_up_when_that_is_there(
    source, gallery_folder, push_next, write_next_gallery
):
    write_next_gallery()
    served = retrieval.Retrieval(source, str(gallery_folder))
    refusal(served)
    push_next()
    served.poll()
    assert answer(served) == ("person 0", 1.0, 2, 2)


def test_while_a_new_gallery_waits_the_old_one_answers_and_the_reason_is_told_once(served, write_next_gallery, caplog):
    write_next_gallery()
    for _ in range(3):
        served.poll()
    assert answer(served) == ("person 0", 1.0, 1, 1)
    assert sum("built by model tiny version 2" in record.message for record in caplog.records) == 1


def test_a_gallery_of_another_model_is_refused_and_says_how_to_go_on(source, tmp_path):
    conftest.write_gallery(tmp_path / "other", np.eye(8), model_name="cats")
    line = refusal(retrieval.Retrieval(source, str(tmp_path / "other")))
    assert "built by model cats version 1" in line and "--model-name cats" in line


def test_a_model_that_clients_call_otherwise_than_its_folder_keeps_its_gallery(model_folder, gallery_folder):
    source = loader.ModelSource("alias", str(model_folder))
    source.poll()
    assert answer(retrieval.Retrieval(source, str(gallery_folder))) == ("person 0", 1.0, 1, 1)


def test_a_new_gallery_of_the_same_version_is_taken_up(served, gallery_folder):
    conftest.write_gallery(gallery_folder, np.eye(8), version=2)
    served.poll()
    assert served.identify(instances(conftest.encode(0)))["gallery"]["version"] == 2


def test_a_new_gallery_that_does_not_fit_its_version_leaves_the_old_one_and_no_version_behind(
    source, served, gallery_folder, push_next, caplog
):
    push_next()
    source.poll()
    conftest.write_gallery(gallery_folder, np.eye(5), version=2, model_version=2)
    served.poll()
    served.poll()
    assert answer(served) == ("person 0", 1.0, 1, 1)
    assert sum("5-d embeddings" in record.message for record in caplog.records) == 1


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
    conftest.write_gallery(tmp_path / "gallery", np.eye(8), model_name="doubler")
    source = loader.ModelSource("doubler", str(tmp_path / "doubler"))
    source.poll()
    with pytest.raises(errors.UsageError, match="does not turn image_bytes into embedding"):
        retrieval.Retrieval(source, str(tmp_path / "gallery"))

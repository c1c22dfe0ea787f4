"""A server of several models starts as its config file says, or says in one line why it does not."""

import dataclasses

import httpx
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2

from longtail.models import errors
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest

STATE = get_model_status_pb2.ModelVersionStatus


@pytest.fixture
def write(tmp_path):
    """write(name, ...): options of a server whose config file has these models; `more` goes to each of them."""
    path = tmp_path / "models.config"

    def written(*names, more=""):
        models = "".join(
            f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" {more} }}\n'
            for name in names
        )
        path.write_text(f"model_config_list {{ {models} }}")
        return server_lib.Options(model_config=str(path), grpc_port=0, rest_port=0, config_poll_s=0.01, poll_s=0.01)

    return written


def ask(server, model):
    url = f"http://{server.rest_address}/v1/models/{model}:predict"
    return httpx.post(url, json={"instances": [2.0]}, trust_env=False, timeout=60).json()["predictions"]


def test_every_model_of_the_file_answers(write, push_affine):
    push_affine("a", 1)
    push_affine("b", 3)
    with server_lib.ModelServer(write("a", "b")) as server:
        assert (ask(server, "a"), ask(server, "b")) == ([2.0], [4.0])


def test_a_running_server_follows_its_file(write, push_affine):
    push_affine("a", 1)
    push_affine("b", 3)
    with server_lib.ModelServer(write("a")) as server:
        old = server.source
        write("b")
        assert old.wait_for(1, STATE.END, timeout_s=120)
        assert server.models.wait_for("b", 3, STATE.AVAILABLE, timeout_s=120)
        assert ask(server, "b") == [4.0]


def failure(options):
    with pytest.raises((errors.UsageError, errors.WorkError)) as raised:
        server_lib.ModelServer(options).start()
    assert "\n" not in str(raised.value)
    return type(raised.value), str(raised.value)


def test_a_model_whose_folder_has_no_version_is_bad_usage(write, push_affine, tmp_path):
    push_affine("a", 1)
    (tmp_path / "b").mkdir()
    kind, line = failure(write("a", "b"))
    assert kind is errors.UsageError and f"model {tmp_path}/b has no version folder" in line


def test_a_model_that_does_not_load_is_failed_work_with_its_name_and_error(write, push_affine, tmp_path):
    push_affine("a", 1)
    (tmp_path / "b").mkdir()
    conftest.push_broken(tmp_path / "b", 1)
    kind, line = failure(write("a", "b"))
    assert kind is errors.WorkError and "models.config: 1 model(s) did not become available: {{{name: b" in line


def test_a_label_ahead_of_its_version_is_bad_usage_unless_that_is_allowed(write, push_affine):
    push_affine("a", 1)
    options = write("a", more='version_labels { key: "stable" value: 1 }')
    kind, line = failure(options)
    assert kind is errors.UsageError and "assign label to version 1 of model a, which is not currently" in line
    assert "--allow_version_labels_for_unavailable_models" in line
    with server_lib.ModelServer(dataclasses.replace(options, labels_before_versions=True)) as server:
        assert ask(server, "a/labels/stable") == [2.0]


def test_a_file_that_cannot_be_read_is_bad_usage(tmp_path):
    options = server_lib.Options(model_config=str(tmp_path / "nowhere"), grpc_port=0, rest_port=0)
    assert failure(options) == (
        errors.UsageError,
        f"--model_config_file {tmp_path}/nowhere cannot be read: No such file or directory",
    )


@pytest.mark.parametrize("given", [{}, {"model": "x", "model_config": "y"}])
def test_either_a_model_or_a_file_of_models_is_to_be_named(given):
    with pytest.raises(errors.UsageError, match="name either a model's folder .--model. or a --model_config_file"):
        server_lib.Options(**given)


def test_a_gallery_that_is_none_is_told_before_a_model_is_loaded(write, tmp_path):
    (tmp_path / "a").mkdir()
    conftest.push_broken(tmp_path / "a", 1)
    kind, line = failure(dataclasses.replace(write("a"), gallery=str(tmp_path / "nowhere")))
    assert kind is errors.UsageError and "nowhere" in line


def test_of_several_models_the_gallery_is_of_the_one_it_names(write, push_affine, tiny_saved_model, tmp_path):
    push_affine("a", 1)
    (tmp_path / "tiny").mkdir()
    conftest.push(tiny_saved_model / "1", tmp_path / "tiny", 1)
    conftest.write_gallery(tmp_path / "gallery", np.eye(8))
    with server_lib.ModelServer(dataclasses.replace(write("a", "tiny"), gallery=str(tmp_path / "gallery"))) as server:
        assert server.retrieval is not None and server.retrieval.refusal is None


def test_a_gallery_of_none_of_several_models_is_bad_usage(write, push_affine, tmp_path):
    push_affine("a", 1)
    push_affine("b", 1)
    conftest.write_gallery(tmp_path / "gallery", np.eye(8))
    kind, line = failure(dataclasses.replace(write("a", "b"), gallery=str(tmp_path / "gallery")))
    assert kind is errors.UsageError and "was built by model tiny, but served are a, b" in line

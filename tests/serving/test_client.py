"""The client gives what the model gives, from one version only, and one line where it cannot."""

import os
import socket
from concurrent import futures

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.components.data import images
from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving import client
from tests import made_pictures as made
from tests.serving import conftest


@pytest.mark.parametrize("kind", ["png", "jpeg", "grey"])
def test_embeddings_equal_those_computed_in_process(tiny_client, in_process, kind):
    images = [conftest.encode(seed, kind) for seed in range(3)]
    np.testing.assert_allclose(tiny_client.embed(images).embedding, in_process(images), atol=1e-5)


def test_a_broken_image_gets_status_1_and_the_others_their_embeddings(tiny_client, in_process):
    good = [conftest.encode(0), conftest.encode(1, "jpeg")]
    embedded = tiny_client.embed([good[0], b"no image", good[1]])
    assert embedded.status.tolist() == [0, signatures.STATUS_UNDECODABLE, 0]
    np.testing.assert_allclose(embedded.embedding[[0, 2]], in_process(good), atol=1e-5)


def test_embeddings_do_not_depend_on_the_batches(server, in_process):
    images = [conftest.encode(seed) for seed in range(7)]
    with client.Client(server.grpc_address, "tiny", batch_size=3) as opened:
        np.testing.assert_allclose(opened.embed(images).embedding, in_process(images), atol=1e-5)


def test_paths_and_bytes_embed_alike(tiny_client, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(conftest.encode(5))
    embedding = tiny_client.embed([path, str(path), path.read_bytes()]).embedding
    np.testing.assert_allclose(embedding, embedding[[0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("form", made.FORMATS)
def test_an_image_has_one_embedding_by_every_way_in(tiny_client, in_process, tmp_path, form):
    """As it is trained on, by its path, by its bytes, and, where a server reads the format itself, as found."""
    tags = range(1, 9) if form in made.TAGGED else [1]
    upright = made.picture(grey=form == "PGM")
    files = [made.turned(upright, form, tag) if form in made.TAGGED else made.encoded(upright, form) for tag in tags]
    trained_on = in_process([images.check(file, 10**6).encoded for file in files])
    np.testing.assert_allclose(trained_on, np.repeat(trained_on[:1], len(files), axis=0), atol=0.02)
    paths = [tmp_path / f"{tag}" for tag in tags]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    np.testing.assert_allclose(tiny_client.embed(paths).embedding, trained_on, atol=1e-5)
    np.testing.assert_allclose(tiny_client.embed(files).embedding, trained_on, atol=1e-5)
    if form in ("JPEG", "MPO"):
        np.testing.assert_allclose(in_process(files), trained_on, atol=0.02)


def test_what_no_decoder_may_see_is_not_sent(tiny_client, in_process):
    embedded = tiny_client.embed([b"%!PS-Adobe-3.0\nshowpage\n", conftest.encode(0)])
    assert embedded.status.tolist() == [signatures.STATUS_UNDECODABLE, 0]
    np.testing.assert_allclose(embedded.embedding[1:], in_process([conftest.encode(0)]), atol=1e-5)


def test_an_image_larger_than_the_client_sends_has_the_status_of_one(server):
    with client.Client(server.grpc_address, "tiny", max_pixels=24 * 20 - 1) as opened:
        assert opened.embed([conftest.encode(0)]).status.tolist() == [signatures.STATUS_TOO_LARGE]


def test_what_is_no_file_is_refused_unopened(tiny_client, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(errors.UsageError, match="not a regular file; name an image"):
            tiny_client.embed([path])


def test_the_version_that_answered_is_told(tiny_client):
    assert tiny_client.embed([conftest.encode(0)]).model_version == 1


def test_a_version_can_be_asked_for(tiny_client):
    assert tiny_client.embed([conftest.encode(0)], version=1).model_version == 1


def test_a_version_the_server_does_not_answer_with_is_failed_work_that_says_what_it_has(tiny_client):
    with pytest.raises(
        client.VersionNotServedError, match="answers with 1 of model tiny, not with version 9"
    ) as raised:
        tiny_client.embed([conftest.encode(0)], version=9)
    assert isinstance(raised.value, errors.WorkError) and raised.value.available == [1]


def test_a_version_of_a_model_that_is_not_there_is_bad_usage(server):
    with client.Client(server.grpc_address, "other") as opened, pytest.raises(errors.UsageError, match="'other'"):
        opened.embed([conftest.encode(0)], version=1)


def test_status_names_the_version_and_its_state(tiny_client):
    assert tiny_client.status() == [client.VersionStatus(1, "AVAILABLE", "")]


@pytest.mark.parametrize("ask", [lambda opened: opened.embed([b"x"]), lambda opened: opened.status()])
def test_a_wrong_model_name_is_bad_usage(server, ask):
    with client.Client(server.grpc_address, "other") as opened, pytest.raises(errors.UsageError, match="'other'"):
        ask(opened)


@pytest.mark.parametrize("ask", [lambda opened: opened.embed([b"x"]), lambda opened: opened.status()])
def test_a_server_out_of_reach_is_failed_work_in_one_line(ask):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with client.Client(address, "tiny") as opened, pytest.raises(errors.WorkError, match=address) as raised:
        ask(opened)
    assert "\n" not in str(raised.value)


def test_a_server_that_does_not_answer_in_time_is_failed_work():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with client.Client(address, "tiny", timeout_s=0.2) as opened, pytest.raises(errors.WorkError, match="0.2 s"):
            opened.embed([b"x"])


@pytest.mark.parametrize("server_name", ["localhost", "http://localhost:8501", "localhost:grpc", ":8500"])
def test_a_server_that_is_no_host_and_port_is_bad_usage(server_name):
    with pytest.raises(errors.UsageError, match="HOST:PORT"):
        client.Client(server_name, "tiny")


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"timeout_s": 0.0}])
def test_a_number_that_makes_no_sense_is_bad_usage(arguments):
    with pytest.raises(errors.UsageError, match="Received: 0"):
        client.Client("localhost:8500", "tiny", **arguments)


def test_a_missing_image_is_named(tiny_client, tmp_path):
    with pytest.raises(errors.UsageError, match="gone.png: no such file"):
        tiny_client.embed([str(tmp_path / "gone.png")])


def test_a_folder_in_place_of_an_image_is_named(tiny_client, tmp_path):
    with pytest.raises(errors.UsageError, match="is a folder"):
        tiny_client.embed([tmp_path])


def test_no_images_are_bad_usage(tiny_client):
    with pytest.raises(errors.UsageError, match="no images"):
        tiny_client.embed([])


class _FieldsServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers as TF Serving does by default, with typed fields instead of raw bytes; `versions` one a request."""

    def __init__(self, versions):
        self._versions = iter(versions)

    def Predict(self, request, context):
        response = predict_pb2.PredictResponse()
        version = next(self._versions)
        count = len(request.inputs[signatures.IMAGE_BYTES].string_val)
        embedding, status = response.outputs[signatures.EMBEDDING], response.outputs[signatures.STATUS]
        embedding.dtype, status.dtype = tf.float32.as_datatype_enum, tf.int32.as_datatype_enum
        embedding.tensor_shape.CopyFrom(tf.TensorShape([count, 2]).as_proto())
        embedding.float_val.extend([float(version), 0.5] * count)
        status.tensor_shape.CopyFrom(tf.TensorShape([count]).as_proto())
        status.int_val.extend([0] * count)
        response.model_spec.version.value = version
        return response


@pytest.fixture
def fields_server():
    """Starts a `_FieldsServer`; returns its address."""
    started = []

    def start(versions):
        server = grpc.server(futures.ThreadPoolExecutor(1))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_FieldsServer(versions), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in started:
        server.stop(None).wait()


def test_typed_fields_are_read_as_raw_bytes_are(fields_server):
    with client.Client(fields_server([4]), "tiny") as opened:
        np.testing.assert_array_equal(opened.embed([b"a", b"b"]).embedding, [[4.0, 0.5], [4.0, 0.5]])


def test_embeddings_of_two_versions_are_never_mixed(fields_server):
    with client.Client(fields_server([1, 2, 2, 2]), "tiny", batch_size=1) as opened:
        embedded = opened.embed([b"a", b"b"])
    assert embedded.embedding[:, 0].tolist() == [2.0, 2.0]


def test_versions_that_keep_changing_are_failed_work(fields_server):
    with (
        client.Client(fields_server(range(100)), "tiny", batch_size=1) as opened,
        pytest.raises(errors.WorkError, match="changed its version"),
    ):
        opened.embed([b"a", b"b"])

"""What may go wrong around a running `longtail serve`: pushes cut short, deletions, SIGTERM, floods, rude clients."""

import base64
import contextlib
import itertools
import json
import os
import shutil
import socket
import threading

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from longtail.benchmarks import server_process
from tests.load import hostile
from tests.load import hostile_requests
from tests.serving import conftest
from tests.serving import faulty

TOKEN = "a token of the tests' own"
BEARER = (("authorization", f"Bearer {TOKEN}"),)
BATCHING = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 2 }
num_batch_threads { value: 1 }
"""
MOST_REQUESTS = 32  # under way at once, of the small server
CROWD = 24


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Two versions of the model that makes trouble, to push from."""
    folder = tmp_path_factory.mktemp("exported")
    for version in (1, 2):
        faulty.export(folder / str(version), seed=version)
    return folder


def model_folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / faulty.NAME
    folder.mkdir()
    conftest.push(exported / "1", folder, 1)
    return folder


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """The model folder of `server`: version 1 is in it between tests."""
    return model_folder(exported, tmp_path_factory)


@pytest.fixture(scope="module")
def server(folder):
    """A server as a user starts one, but that it looks for versions more often."""
    with server_process.ServerProcess(["--model", str(folder), "--file-system-poll-wait-seconds", "0.1"]) as running:
        yield running


@pytest.fixture(scope="module")
def small_server(exported, tmp_path_factory):
    """A server that asks for a token, takes few requests at once, and soon misses clients that do not read."""
    folder = model_folder(exported, tmp_path_factory)
    settings = tmp_path_factory.mktemp("settings")
    (settings / "batching").write_text(BATCHING)
    (settings / "token").write_text(TOKEN)
    (settings / "token").chmod(0o600)
    arguments = {
        "--model": folder,
        "--batching-parameters-file": settings / "batching",
        "--token-file": settings / "token",
        "--max-concurrent-requests": MOST_REQUESTS,
    }
    with server_process.ServerProcess([str(word) for pair in arguments.items() for word in pair]) as running:
        yield running


@pytest.fixture
def stubs(server):
    opened = faulty.Stubs(server.grpc_address)
    yield opened
    opened.channel.close()


@pytest.fixture
def small_stubs(small_server):
    opened = faulty.Stubs(small_server.grpc_address)
    yield opened
    opened.channel.close()


@pytest.fixture
def crowd_of_stubs(small_server):
    """Clients of the small server, each with a connection of its own: one may not have all requests under way."""
    opened = [faulty.Stubs(small_server.grpc_address) for _ in range(CROWD)]
    yield opened
    for each in opened:
        each.channel.close()


def wait_for_state(stubs, version, state):
    """Returns what the server says went wrong with a version once it is in a state."""
    while (found := stubs.states(wait_for_ready=True).get(version, ("", "")))[0] != state:
        threading.Event().wait(0.02)
    return found[1]


def wait_for_file(path):
    while not os.path.exists(path):
        threading.Event().wait(0.01)


# -- versions


def test_a_half_written_version_is_told_of_and_taken_up_once_it_is_whole(server, folder, exported, stubs):
    with faulty.Crowd(server.grpc_address, jpeg(0), clients=4) as crowd:
        assert crowd.wait_for(1)
        whole = exported / "2"
        (folder / "2").mkdir()
        text = (whole / "saved_model.pb").read_bytes()
        (folder / "2" / "saved_model.pb").write_bytes(text[: len(text) // 2])
        assert wait_for_state(stubs, 2, "END")
        assert crowd.wait_for(1)
        (folder / "2" / "saved_model.pb").write_bytes(text)  # whole, but for its variables
        assert crowd.wait_for(1)
        assert wait_for_state(stubs, 2, "END")
        shutil.copytree(whole, folder / "2", dirs_exist_ok=True)
        assert crowd.wait_for(2)
    assert not crowd.failed and set(crowd.answered) == {1, 2}
    shutil.rmtree(folder / "2")
    wait_for_state(stubs, 1, "AVAILABLE")


def test_deleting_the_version_that_serves_fails_no_request(server, folder, exported, stubs):
    with faulty.Crowd(server.grpc_address, jpeg(0), clients=4) as crowd:
        conftest.push(exported / "2", folder, 3)
        assert crowd.wait_for(3)
        shutil.rmtree(folder / "3")
        assert crowd.wait_for(1)
        wait_for_state(stubs, 3, "END")
    assert not crowd.failed


# -- stopping


def test_sigterm_under_load_answers_every_accepted_request_and_refuses_the_rest(exported, tmp_path, tmp_path_factory):
    folder = model_folder(exported, tmp_path_factory)
    running = server_process.ServerProcess(["--model", str(folder), "--grace", "60"])
    with running as server, faulty.Crowd(server.grpc_address, jpeg(0), clients=8) as crowd:
        stubs = faulty.Stubs(server.grpc_address)
        accepted = stubs.predict.future(faulty.wait(tmp_path / "gate"))
        wait_for_file(f"{tmp_path}/gate.begun")
        assert crowd.wait_for(1, more=50)
        server.ask_to_stop()
        ask_until_refused(stubs)
        assert not accepted.done()
        (tmp_path / "gate").touch()
        assert accepted.result(timeout=120).outputs["gate"].string_val
        assert server.wait() == 0
    stubs.channel.close()
    assert len(crowd.failed) == 8  # each client ended with one refusal, and none lost an answer
    assert {error.code() for error in crowd.failed} == {grpc.StatusCode.UNAVAILABLE}


def ask_until_refused(stubs):
    with contextlib.suppress(grpc.RpcError):
        while True:
            stubs.embedding(jpeg(0))


# -- too much


def test_a_full_queue_refuses_at_once_and_the_server_recovers(small_server, small_stubs, crowd_of_stubs, tmp_path):
    waiting = [small_stubs.predict.future(faulty.wait(tmp_path / "gate"), metadata=BEARER)]
    wait_for_file(f"{tmp_path}/gate.begun")
    waiting += [each.predict.future(faulty.wait(tmp_path / "gate"), metadata=BEARER) for each in crowd_of_stubs]
    refused = threading.Semaphore(0)
    for call in waiting:
        call.add_done_callback(lambda call: refused.release())
    for _ in range(CROWD - 4 - 2 * 4):
        assert refused.acquire(timeout=120)
    assert {call.code() for call in waiting if call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert not waiting[0].done()
    (tmp_path / "gate").touch()
    codes = [call.code() for call in waiting]
    assert codes.count(grpc.StatusCode.OK) >= 1 + 4
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert small_stubs.embedding(jpeg(0), metadata=BEARER).shape == (8,)


# -- rude clients


def test_clients_that_hang_up_are_forgotten(small_server, small_stubs, crowd_of_stubs, tmp_path):
    for turn in range(3):  # each turn would fill the server, were the last one's requests still counted
        gate = tmp_path / f"gate{turn}"
        begun = small_stubs.predict.future(faulty.wait(gate), metadata=BEARER)
        wait_for_file(f"{gate}.begun")
        queued = [each.predict.future(faulty.wait(gate), metadata=BEARER) for each in crowd_of_stubs]
        for call in (begun, *queued):
            call.cancel()
        gate.touch()
    for address, start in (
        (small_server.grpc_address, faulty.PREFACE[:10]),
        (small_server.grpc_address, faulty.PREFACE + faulty.http2_call(1, b"x" * 100)[:60]),
        (small_server.rest_address, b"POST /v1/models/faulty:predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{"),
        (small_server.rest_address, b"POST /v1/mod"),
    ):
        for _ in range(MOST_REQUESTS):
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(start)
    assert small_stubs.embedding(jpeg(0), metadata=BEARER).shape == (8,)
    assert over_rest(small_server, jpeg(0), {"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def over_rest(server, image, headers):
    body = {"instances": [{"b64": base64.b64encode(image).decode()}]}
    url = f"http://{server.rest_address}/v1/models/{faulty.NAME}:predict"
    return httpx.post(url, json=body, headers=headers, trust_env=False, timeout=60)


def test_hostile_requests_end_nothing_and_are_told_nothing(server, stubs):
    images = [jpeg(seed) for seed in range(8)]
    before = stubs.embedding(images[0])
    verdict = hostile.Verdict()
    requests = hostile_requests.Hostile(faulty.NAME, images, seed=0)
    hostile.attack(server, itertools.islice(requests, 300), verdict)
    assert not verdict.faults
    assert len(verdict.kinds) > 10 and sum(verdict.kinds.values()) == 300
    np.testing.assert_allclose(stubs.embedding(images[0]), before, atol=1e-6)


# -- who may ask


def reload_request():
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse('model_config_list { config { name: "x" base_path: "/" model_platform: "tensorflow" } }', config)
    return model_management_pb2.ReloadConfigRequest(config=config)


GRPC_CALLS = {
    "/tensorflow.serving.PredictionService/Predict": faulty.images(b""),
    "/tensorflow.serving.PredictionService/Classify": faulty.images(b""),
    "/tensorflow.serving.PredictionService/Regress": faulty.images(b""),
    "/tensorflow.serving.PredictionService/MultiInference": faulty.images(b""),
    "/tensorflow.serving.PredictionService/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(),
    "/tensorflow.serving.ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest(),
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest": reload_request(),
}
WRONG = [(), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),), (("authorization", "Bearer "),)]


@pytest.mark.parametrize("metadata", WRONG)
@pytest.mark.parametrize("method", GRPC_CALLS)
def test_without_the_token_no_grpc_method_answers(small_stubs, method, metadata):
    with pytest.raises(grpc.RpcError) as raised:
        call = small_stubs.channel.unary_unary(method, request_serializer=lambda message: message.SerializeToString())
        call(GRPC_CALLS[method], metadata=metadata)
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert TOKEN not in raised.value.details()


def test_without_the_token_reflection_does_not_answer(small_stubs):
    call = small_stubs.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as raised:
        list(call(iter([b"\x3a\x00"])))
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("header", [None, "Bearer wrong", TOKEN, "Basic YTpi"])
@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", f"/v1/models/{faulty.NAME}:predict"),
        ("POST", f"/v1/models/{faulty.NAME}/versions/1:predict"),
        ("GET", f"/v1/models/{faulty.NAME}"),
        ("GET", f"/v1/models/{faulty.NAME}/metadata"),
        ("POST", "/v1/gallery:identify"),
        ("GET", "/monitoring/prometheus/metrics"),
        ("GET", "/nowhere"),
    ],
)
def test_without_the_token_no_path_answers(small_server, verb, path, header):
    headers = {} if header is None else {"Authorization": header}
    reply = httpx.request(verb, f"http://{small_server.rest_address}{path}", headers=headers, trust_env=False)
    assert reply.status_code == 401
    assert TOKEN not in reply.text + json.dumps(dict(reply.headers))


def test_health_answers_without_a_token(small_stubs):
    health = health_pb2_grpc.HealthStub(small_stubs.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING


def test_with_the_token_both_surfaces_answer(small_server, small_stubs):
    assert small_stubs.embedding(jpeg(0), metadata=BEARER).shape == (8,)
    assert over_rest(small_server, jpeg(0), {"Authorization": f"Bearer {TOKEN}"}).status_code == 200

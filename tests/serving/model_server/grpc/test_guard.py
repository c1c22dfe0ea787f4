"""Whatever a gRPC client sends, and however many, it is answered in one line that tells nothing of the code."""

import socket
import threading
from concurrent import futures

import grpc
import httpx
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from longtail.models import errors
from longtail.serving.model_server import server as server_lib
from tests.serving.model_server.grpc import conftest

CODE = grpc.StatusCode
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def test_a_method_that_is_not_there_is_unimplemented(serve, connect):
    call = connect(serve()).unary_unary("/tensorflow.serving.PredictionService/Other")
    assert conftest.failure(call)[0] == CODE.UNIMPLEMENTED


@pytest.mark.parametrize("said", ["plain", "ünïcødé 图 %41%", "100% \x07"])
def test_the_words_of_an_error_arrive_as_they_were_said(serve, connect, said):
    found = conftest.failure(conftest.predict(connect(serve())), conftest.rows_request(text=said))
    assert found == (CODE.FAILED_PRECONDITION, f'Serving signature key "{said}" not found.')


def test_an_error_is_one_line_and_cut_where_tf_serving_cuts_it(serve, connect):
    request = conftest.rows_request(text="first\nsecond" + "é" * 50_000)
    code, details = conftest.failure(conftest.predict(connect(serve())), request)
    assert code == CODE.FAILED_PRECONDITION and '"first second' in details
    assert details.endswith("...TRUNCATED") and len(details) == 1024 + len("...TRUNCATED")


def test_a_fault_of_ours_tells_the_client_nothing_of_the_code(serve, connect, caplog):
    server = serve()

    def fail(*asked):
        raise ZeroDivisionError("secret of the code")

    server.source.acquire = fail
    code, details = conftest.failure(conftest.predict(connect(server)), conftest.rows_request())
    assert code == CODE.INTERNAL and "secret" not in details
    assert "secret of the code" in caplog.text


@pytest.mark.parametrize("method", [PREDICT, "/grpc.health.v1.Health/Check"])
def test_a_message_that_is_no_proto_is_an_invalid_argument(serve, connect, caplog, method):
    code, details = conftest.failure(connect(serve()).unary_unary(method), b"\xff\xff")
    assert (code, details) == (CODE.INVALID_ARGUMENT, "The request is not of the method's type")
    assert not [record for record in caplog.records if record.name == "longtail" and record.levelname == "ERROR"]


def test_an_output_of_more_than_32_dimensions_is_an_invalid_argument(serve, connect):
    server = serve()
    request = conftest.rows_request(text="deep")
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    code, details = conftest.failure(conftest.predict(connect(server)), request)
    assert code == CODE.INVALID_ARGUMENT and "an output cannot be sent" in details
    body = {"signature_name": "deep", "instances": [1.0]}
    reply = httpx.post(f"http://{server.rest_address}/v1/models/rows:predict", json=body, trust_env=False)
    assert reply.status_code == 400 and "an output cannot be sent" in reply.json()["error"]


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_messages_than_one_is_no_crash(serve, connect, count):
    channel = connect(serve())
    message = conftest.rows_request().SerializeToString()
    call = channel.stream_unary(PREDICT)
    if count:
        assert call(iter([message] * count), timeout=60)
    else:
        with pytest.raises(grpc.RpcError):
            call(iter([]), timeout=1)
    assert conftest.predict(channel)(conftest.rows_request(), timeout=60)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_beyond_the_limit_is_refused_packed_or_not(serve, connect, compression):
    call = conftest.predict(connect(serve(max_request_bytes=10_000)))
    assert call(conftest.rows_request(2000), timeout=60, compression=compression)
    code, _ = conftest.failure(call, conftest.rows_request(3000), compression=compression)
    assert code == CODE.RESOURCE_EXHAUSTED


def test_predictions_beyond_the_limit_are_refused_and_the_rest_is_answered(serve, connect, hold):
    server = serve(max_requests=2)
    begun, may_go = hold(server)
    channels = [connect(server) for _ in range(3)]
    held = [conftest.predict(channel).future(conftest.rows_request(), timeout=60) for channel in channels[:2]]
    assert begun.acquire(timeout=60)
    code, details = None, ""
    while code != CODE.RESOURCE_EXHAUSTED or "under way" not in details:  # until the second has arrived too
        asked = conftest.predict(channels[2]).future(conftest.rows_request(), timeout=0.2)
        code, details = asked.code(), asked.details() or ""
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "rows"
    assert model_service_pb2_grpc.ModelServiceStub(channels[2]).GetModelStatus(status, timeout=60)
    assert health_pb2_grpc.HealthStub(channels[2]).Check(health_pb2.HealthCheckRequest(), timeout=60).status == 1
    may_go.set()
    assert all(call.result(60) for call in held)


def test_stopping_cancels_what_is_under_way_when_the_grace_is_over(serve, connect, hold):
    server = serve(grace_s=0.1)
    begun, may_go = hold(server)
    held = conftest.predict(connect(server)).future(conftest.rows_request(), timeout=60)
    assert begun.acquire(timeout=60)
    with futures.ThreadPoolExecutor() as pool:
        stopping = pool.submit(server.stop)
        assert held.exception(60).code() in (CODE.CANCELLED, CODE.UNAVAILABLE)
        may_go.set()
        stopping.result(60)


def test_a_request_under_way_is_answered_before_a_watch_of_the_health_is_ended(serve, connect, hold):
    server = serve()
    begun, may_go = hold(server)
    watching = health_pb2_grpc.HealthStub(connect(server)).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    held = conftest.predict(connect(server)).future(conftest.rows_request(), timeout=60)
    assert begun.acquire(timeout=60)
    threading.Thread(target=server.stop).start()
    assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
    may_go.set()
    assert held.result(60)


def test_a_server_stops_once_however_often_it_is_told(serve):
    server = serve()
    server.stop()
    server.stop()


def test_a_server_that_fails_to_start_lets_its_ports_go(rows_folder, tmp_path):
    (tmp_path / "rows" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(errors.WorkError, match="no version loads"):
        server_lib.ModelServer(server_lib.Options(str(tmp_path / "rows"), grpc_port=port, rest_port=0)).start()
    with server_lib.ModelServer(server_lib.Options(str(rows_folder), grpc_port=port, rest_port=0)) as other:
        assert other.grpc_address.endswith(f":{port}")

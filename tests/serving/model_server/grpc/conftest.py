"""What the tests of the gRPC side share: servers of a small model with options of the test's own, and busy ones."""

import contextlib
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.serving.model_server import server as server_lib
from longtail.serving.model_server.grpc import server as grpc_server
from tests.serving.model_server import small_models

LOCAL = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


def rows_request(count=1, text=""):
    """A request to double so many rows; `text` names another signature."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "rows"
    request.model_spec.signature_name = text or "double"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((count, 1), np.float32)))
    return request


@pytest.fixture(scope="session")
def rows_folder(tmp_path_factory):
    """A model folder of `small_models`, named "rows"."""
    folder = tmp_path_factory.mktemp("guarded") / "rows"
    small_models.write(folder / "1")
    return folder


@pytest.fixture
def serve(rows_folder):
    """Starts a server whose gRPC side has options of the test's own."""
    with contextlib.ExitStack() as started:

        def start(grace_s=10.0, **grpc_options):
            options = server_lib.Options(
                str(rows_folder),
                grpc_port=0,
                rest_port=0,
                poll_s=0.0,
                grace_s=grace_s,
                grpc=grpc_server.Options(**grpc_options),
            )
            return started.enter_context(server_lib.ModelServer(options))

        yield start


@pytest.fixture
def connect():
    """A channel to a server, with a connection of its own."""
    with contextlib.ExitStack() as opened:
        yield lambda server: opened.enter_context(grpc.insecure_channel(server.grpc_address, options=LOCAL))


@pytest.fixture
def hold():
    """hold(server) makes its model wait: gives a semaphore of runs that have begun, and an event that lets them go."""
    events = []

    def start(server):
        signature = server.source.get().signatures["double"]
        run, begun, may_go = signature.run_rows, threading.Semaphore(0), threading.Event()
        events.append(may_go)

        def slow(parts):
            begun.release()
            assert may_go.wait(60)
            return run(parts)

        signature.run_rows = slow
        return begun, may_go

    yield start
    for event in events:
        event.set()


def predict(channel):
    """The stub's method."""
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def failure(call, message=b"", **options):
    """Code and words of what a call fails with."""
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=60, **options)
    return raised.value.code(), raised.value.details()

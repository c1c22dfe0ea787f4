"""Stock clients of grpc.health.v1 and of reflection get from the server what they expect."""

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import proto_reflection_descriptor_database
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc

from longtail.serving.model_server import grpc_core
from longtail.serving.model_server import grpc_health

SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def health():
    return grpc_health.Health(SERVICES)


@pytest.fixture
def server(health):
    methods = {**health.methods(), **grpc_health.reflection_methods(SERVICES)}
    running = grpc_core.Server(methods, [("grpc.so_reuseport", 0)], grpc_core.Limits(calls=2))
    running.port = running.listen("127.0.0.1:0")
    running.start()
    yield running
    assert running.stop(0.0)


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


@pytest.fixture
def stub(channel):
    return health_pb2_grpc.HealthStub(channel)


def asked(service=""):
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_check_says_serving_once_it_serves(stub, health, service):
    assert stub.Check(asked(service), timeout=60).status == STATUS.NOT_SERVING
    health.serve()
    assert stub.Check(asked(service), timeout=60).status == STATUS.SERVING
    health.stop()
    assert stub.Check(asked(service), timeout=60).status == STATUS.NOT_SERVING


def test_check_of_an_unknown_service_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(asked("other"), timeout=60)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_check_of_noise_is_internal(channel):
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/{grpc_health.SERVICE}/Check")(b"\xff\xff", timeout=60)
    assert raised.value.code() == grpc.StatusCode.INTERNAL


def test_those_who_watch_take_the_place_of_each_other_only(stub):
    watching = [stub.Watch(asked(), timeout=60) for _ in range(2)]
    assert [next(each).status for each in watching] == [STATUS.NOT_SERVING] * 2
    with pytest.raises(grpc.RpcError) as raised:
        next(stub.Watch(asked(), timeout=60))
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Check(asked(), timeout=60).status == STATUS.NOT_SERVING
    for each in watching:
        each.cancel()


def test_watch_tells_every_change_and_ends_with_the_server(stub, health):
    watching = stub.Watch(asked(), timeout=60)
    assert next(watching).status == STATUS.NOT_SERVING
    health.serve()
    assert next(watching).status == STATUS.SERVING
    health.stop()
    assert next(watching).status == STATUS.NOT_SERVING
    with pytest.raises(grpc.RpcError) as raised:
        next(watching)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_watch_of_an_unknown_service_says_so_and_goes_on(stub):
    watching = stub.Watch(asked("other"), timeout=60)
    assert next(watching).status == STATUS.SERVICE_UNKNOWN
    assert watching.is_active()
    watching.cancel()


def test_a_watch_that_is_cancelled_leaves_nothing_behind(stub, health, server):
    watching = stub.Watch(asked(), timeout=60)
    next(watching)
    watching.cancel()
    while server.in_flight():
        continue
    assert not health._watching


def test_reflection_lists_the_services(channel):
    database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(channel)
    assert {*SERVICES, "grpc.reflection.v1alpha.ServerReflection"} <= set(database.get_services())


def test_reflection_describes_the_methods_and_their_messages(channel):
    database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(channel)
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("tensorflow.serving.PredictionService")
    request = service.FindMethodByName("Predict").input_type
    assert request.full_name == "tensorflow.serving.PredictRequest" and "inputs" in request.fields_by_name


def test_reflection_answers_request_by_request_and_says_what_it_does_not_know(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    symbols = ["tensorflow.serving.PredictRequest", "nothing.of.the.Kind", "tensorflow.TensorProto"]
    requests = (reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols)
    replies = list(stub.ServerReflectionInfo(requests, timeout=60))
    assert [reply.WhichOneof("message_response") for reply in replies] == [
        *("file_descriptor_response", "error_response", "file_descriptor_response")
    ]

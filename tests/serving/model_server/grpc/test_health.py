"""Stock clients of grpc.health.v1 and of reflection get from the server what they expect."""

import threading

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import proto_reflection_descriptor_database
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc

SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def channel(connect, server):
    return connect(server)


@pytest.fixture
def stub(channel):
    return health_pb2_grpc.HealthStub(channel)


def asked(service=""):
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", *SERVICES, "PredictionService", "ModelService"])
def test_check_says_serving_for_the_services_by_their_names_and_by_tf_servings(stub, service):
    assert stub.Check(asked(service), timeout=60).status == STATUS.SERVING


def test_check_of_an_unknown_service_is_not_found(stub):
    with pytest.raises(grpc.RpcError) as raised:
        stub.Check(asked("other"), timeout=60)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_watch_tells_of_the_end_and_ends_with_the_server(stub, server):
    watching = stub.Watch(asked(), timeout=60)
    assert next(watching).status == STATUS.SERVING
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    assert next(watching).status == STATUS.NOT_SERVING
    with pytest.raises(grpc.RpcError) as raised:
        next(watching)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    stopping.join()


def test_watch_of_an_unknown_service_says_so_and_goes_on(stub):
    watching = stub.Watch(asked("other"), timeout=60)
    assert next(watching).status == STATUS.SERVICE_UNKNOWN
    assert watching.is_active()
    watching.cancel()


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

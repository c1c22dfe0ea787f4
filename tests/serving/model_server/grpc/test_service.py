"""The gRPC side answers as TF Serving does, errors too."""

import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import classification_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.models.export import signatures
from longtail.serving.model_server import server as server_lib
from longtail.serving.model_server.batching import scheduler as batching
from tests.serving import conftest
from tests.serving.model_server import small_models


@pytest.fixture
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(name="tiny", signature="", version=None, output_filter=(), **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.output_filter.extend(output_filter)
    if version is not None:
        request.model_spec.version.value = version
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    return request


def failure(call, request):
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=60)
    return raised.value.code(), raised.value.details()


def test_predict_equals_the_model_in_process(stub, in_process):
    images = [conftest.encode(0), conftest.encode(1, "jpeg"), conftest.encode(2, "grey")]
    response = stub.Predict(predict_request(image_bytes=images))
    found = tf.make_ndarray(response.outputs[signatures.EMBEDDING])
    np.testing.assert_allclose(found, in_process(images), atol=1e-5)


def test_replies_have_numbers_in_the_field_of_their_type(stub, in_process):
    outputs = stub.Predict(predict_request(image_bytes=[conftest.encode(0)])).outputs
    np.testing.assert_allclose(outputs["embedding"].float_val, in_process([conftest.encode(0)])[0], atol=1e-5)
    assert list(outputs["status"].int_val) == [0]
    assert not any(tensor.tensor_content for tensor in outputs.values())


def test_replies_are_raw_bytes_where_that_is_said(serve, connect):
    rows = prediction_service_pb2_grpc.PredictionServiceStub(connect(serve(as_content=True)))
    outputs = rows.Predict(predict_request("rows", "double", x=np.ones((1, 1), np.float32))).outputs
    assert all(tensor.tensor_content for tensor in outputs.values()) and not outputs["y"].float_val


def test_the_reply_names_model_version_and_signature(stub):
    spec = stub.Predict(predict_request(image_bytes=[conftest.encode(0)])).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", 1, signatures.SERVING)


def test_the_serving_version_can_be_named(stub):
    assert stub.Predict(predict_request(image_bytes=[conftest.encode(0)], version=1)).model_spec.version.value == 1


@pytest.mark.parametrize("packed", [True, False])
def test_the_pixels_signature_takes_numbers_in_either_form(stub, packed):
    pixels = np.zeros((2, 16, 16, 1), np.uint8)
    tensor = tf.make_tensor_proto(pixels)
    if not packed:
        tensor = tf.make_tensor_proto(pixels[:0])
        tensor.tensor_shape.dim[0].size = 2
        tensor.int_val.extend([0] * pixels.size)
    response = stub.Predict(predict_request(signature=signatures.PIXELS, pixels=tensor))
    assert tf.make_ndarray(response.outputs[signatures.STATUS]).tolist() == [0, 0]


def test_an_output_filter_leaves_the_others_out(stub):
    request = predict_request(image_bytes=[conftest.encode(0)], output_filter=[signatures.STATUS])
    assert list(stub.Predict(request).outputs) == [signatures.STATUS]


def test_a_request_beyond_four_megabytes_is_taken(stub):
    response = stub.Predict(predict_request(image_bytes=[b"x" * (5 << 20)]))
    assert tf.make_ndarray(response.outputs[signatures.STATUS]).shape == (1,)


def test_an_unknown_model_is_not_found(stub):
    assert failure(stub.Predict, predict_request("other", image_bytes=[b""])) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(other)",
    )


def test_an_unknown_version_is_not_found(stub):
    assert failure(stub.Predict, predict_request(version=9, image_bytes=[b""])) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(tiny, 9)",
    )


def test_an_unknown_signature_is_a_failed_precondition(stub):
    assert failure(stub.Predict, predict_request(signature="classify", image_bytes=[b""])) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "classify" not found.',
    )


def _too_short():
    tensor = tf.make_tensor_proto([b"a"])
    tensor.tensor_shape.dim[0].size = 1 << 40
    return tensor


def _negative():
    tensor = tf.make_tensor_proto([b"a"])
    tensor.tensor_shape.dim[0].size = -1
    return tensor


def _contradicting():
    tensor = tf.make_tensor_proto(np.zeros((1, 16, 16, 1), np.uint8))
    tensor.tensor_content = b"123"
    return tensor


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (predict_pb2.PredictRequest(), "Missing ModelSpec"),
        (predict_request(""), "no name"),
        (predict_request(), "Missing but required: {image_bytes}"),
        (predict_request(image_bytes=[b""], mask=[1]), "Sent extra: {mask}"),
        (predict_request(image_bytes=[1.0]), "expects DT_STRING but DT_FLOAT is provided"),
        (predict_request(image_bytes=b"scalar"), "expects shape [?] but [] is provided"),
        (predict_request(signature="pixels", pixels=np.zeros((1, 8, 8, 1), np.uint8)), "expects shape [?,16,16,1]"),
        (predict_request(image_bytes=[b""], output_filter=["logits"]), "output tensor alias not found"),
        (predict_request(image_bytes=[b""], output_filter=["status"] * 2), "duplicate output"),
        (predict_request(image_bytes=_too_short()), "far larger"),
        (predict_request(image_bytes=_negative()), "not fully stated"),
        (predict_request(signature="pixels", pixels=_contradicting()), "do not fill"),
    ],
)
def test_what_does_not_fit_the_signature_is_an_invalid_argument_in_one_line(stub, request_, said):
    code, details = failure(stub.Predict, request_)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and said in details and "\n" not in details


@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
def test_other_methods_are_unimplemented(stub, method):
    call = getattr(stub, method)
    with pytest.raises(grpc.RpcError) as raised:
        # An empty message serialises alike whichever its type.
        call(_empty(method))
    assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def _empty(method):
    from tensorflow_serving.apis import inference_pb2
    from tensorflow_serving.apis import regression_pb2

    return {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
        "MultiInference": inference_pb2.MultiInferenceRequest,
    }[method]()


def metadata_request(name="tiny", version=None, fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


@pytest.mark.parametrize("version", [None, 1])
def test_get_model_metadata_tells_the_signatures(stub, version):
    response = stub.GetModelMetadata(metadata_request(version=version))
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    assert (response.model_spec.name, response.model_spec.version.value) == ("tiny", 1)
    assert definitions.signature_def[signatures.SERVING].inputs[signatures.IMAGE_BYTES].dtype == tf.string
    assert list(definitions.signature_def[signatures.PIXELS].inputs) == [signatures.PIXELS]


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"name": None}, grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"),
        ({"fields": ()}, grpc.StatusCode.INVALID_ARGUMENT, "must specify at least one metadata_field"),
        ({"fields": ("signature_def", "x")}, grpc.StatusCode.INVALID_ARGUMENT, "Metadata field x is not supported"),
        ({"name": "other"}, grpc.StatusCode.NOT_FOUND, "Latest(other)"),
        ({"version": 9}, grpc.StatusCode.NOT_FOUND, "Specific(tiny, 9)"),
    ],
)
def test_metadata_of_what_is_not_there_fails_as_tf_servings_does(stub, asked, code, said):
    found, details = failure(stub.GetModelMetadata, metadata_request(**asked))
    assert found == code and said in details


def status_request(name, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


def test_get_model_status_says_available(models):
    [entry] = models.GetModelStatus(status_request("tiny")).model_version_status
    assert (entry.version, entry.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("other",), "Could not find any versions of model other"),
        (("tiny", 9), "Could not find version 9 of model tiny"),
        (("",), "Could not find any versions of model "),
    ],
)
def test_the_status_of_what_is_not_there_is_not_found(models, asked, said):
    assert failure(models.GetModelStatus, status_request(*asked)) == (grpc.StatusCode.NOT_FOUND, said)


@pytest.mark.parametrize("service", ["", "tensorflow.serving.PredictionService"])
def test_health_checks_say_serving(channel, service):
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    """A server of a model that tells how many rows it was given in all, one batch at a time."""
    folder = tmp_path_factory.mktemp("counting") / "rows"
    small_models.write(folder / "1")
    one_at_once = batching.Options(num_batch_threads=1, batch_timeout_micros=0)
    options = server_lib.Options(str(folder), grpc_port=0, rest_port=0, batching=one_at_once)
    with server_lib.ModelServer(options) as running:
        yield running


@pytest.fixture
def hold(counting):
    """Keeps the only batch thread busy until what it gives is called."""
    signature = counting.source.get().signatures["double"]
    run, begun, may_go = signature.run_rows, threading.Event(), threading.Event()

    def slow(parts):
        begun.set()
        assert may_go.wait(60)
        return run(parts)

    def start(call):
        signature.run_rows = slow
        held = call.future(rows_request(1), timeout=60)
        assert begun.wait(60)
        signature.run_rows = run

        def end():
            may_go.set()
            return held.result(60)

        return end

    yield start
    may_go.set()


def rows_request(count):
    return predict_request("rows", "double", x=np.ones((count, 1), np.float32))


def in_all(call):
    return tf.make_ndarray(call(rows_request(1), timeout=60).outputs["in_all"])[0]


@pytest.mark.parametrize("give_up", ["cancel", "deadline"])
def test_a_request_its_client_gave_up_is_never_computed(counting, hold, give_up):
    with grpc.insecure_channel(counting.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        before = in_all(call)
        end = hold(call)
        given_up = call.future(rows_request(1000), timeout=0.3 if give_up == "deadline" else 60)
        while counting.scheduler.waiting() < 1:
            continue
        if give_up == "cancel":
            given_up.cancel()
        expected = {"cancel": grpc.StatusCode.CANCELLED, "deadline": grpc.StatusCode.DEADLINE_EXCEEDED}[give_up]
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            given_up.result(60)
        assert given_up.code() == expected
        while counting.scheduler.waiting():
            continue
        end()
        assert in_all(call) == before + 2


def test_a_config_is_reloaded_beside_the_requests_and_answered_with_ok(counting):
    with grpc.insecure_channel(counting.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        request = model_management_pb2.ReloadConfigRequest()
        entry = request.config.model_config_list.config.add(name="rows", model_platform="tensorflow")
        entry.base_path = counting.options.model
        assert stub.HandleReloadConfigRequest(request, timeout=60).status.error_code == 0
        entry.base_path = "relative"
        code, details = failure(stub.HandleReloadConfigRequest, request)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "absolute path" in details

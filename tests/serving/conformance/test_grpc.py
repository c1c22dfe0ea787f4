"""What a client of TensorFlow Serving's gRPC API may rely on, whichever server answers."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import predict_pb2

from tests.serving.conformance import model_zoo

CODE = grpc.StatusCode
STATE = get_model_status_pb2.ModelVersionStatus


def spec(message, name, version=None, label="", signature=""):
    """`message`, whose model_spec says this."""
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    if version is not None:
        message.model_spec.version.value = version
    if label:
        message.model_spec.version_label = label
    return message


def request(model, inputs, output_filter=(), **which):
    message = spec(predict_pb2.PredictRequest(output_filter=output_filter), model, **which)
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return message


def outputs(response):
    return {alias: tf.make_ndarray(tensor) for alias, tensor in response.outputs.items()}


def refusal(call, message):
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=60)
    return raised.value.code(), raised.value.details()


def refused_in_the_end(call, message):
    """The code of the first refusal: TensorFlow Serving unloads a model after it said that it will."""
    for _ in range(10_000):
        try:
            call(message, timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return None


X = {"x": np.float32([1, 2, 5])}
MIXED = {"point": np.float32([[1, 2], [3, 4]]), "count": np.int64([1, 2]), "text": ["a", "b"]}


def test_half_plus_two_is_half_plus_two(predictions):
    response = predictions.Predict(request("half_plus_two", X))
    assert outputs(response)["y"].tolist() == [2.5, 3.0, 4.5]


def test_the_answer_names_model_version_and_signature(predictions):
    answered = predictions.Predict(request("half_plus_two", X)).model_spec
    assert (answered.name, answered.version.value, answered.signature_name) == ("half_plus_two", 123, "serving_default")


@pytest.mark.parametrize("signature", ["regress_x_to_y", "classify_x_to_y"])
def test_signatures_of_regression_and_classification_can_be_predicted_with(predictions, signature):
    examples = [
        tf.train.Example(
            features=tf.train.Features(feature={"x": tf.train.Feature(float_list=tf.train.FloatList(value=[value]))})
        ).SerializeToString()
        for value in (1.0, 2.0)
    ]
    response = predictions.Predict(request("half_plus_two", {"inputs": examples}, signature=signature))
    [found] = outputs(response).values()
    assert found.tolist() == [[2.5], [3.0]] and response.model_spec.signature_name == signature


def test_a_keras_application_answers_as_keras_does(predictions):
    pixels = np.random.default_rng(1).random((3, 32, 32, 3)).astype(np.float32)
    definitions = metadata(predictions, "mobilenet").signature_def["serving_default"]
    [alias] = definitions.inputs
    [found] = outputs(predictions.Predict(request("mobilenet", {alias: pixels}))).values()
    np.testing.assert_allclose(found, model_zoo.mobilenet()(pixels), rtol=1e-4, atol=1e-6)


def test_several_inputs_of_several_types_go_in_and_out(predictions):
    found = outputs(predictions.Predict(request("mixed", MIXED)))
    assert {alias: value.tolist() for alias, value in found.items()} == {
        "sum": [4.0, 9.0],
        "more": [2, 3],
        "echo_bytes": [b"a\xff", b"b\xff"],
    }


@pytest.mark.parametrize(("by", "more"), [({}, [11]), ({"by": np.int64([1])}, [2])])
def test_an_input_with_a_default_need_not_be_sent(predictions, by, more):
    message = request("mixed", {"count": np.int64([1]), **by}, signature="step")
    assert outputs(predictions.Predict(message))["more"].tolist() == more


def test_an_output_filter_leaves_the_others_out(predictions):
    found = outputs(predictions.Predict(request("mixed", MIXED, ["more"])))
    assert list(found) == ["more"]


@pytest.mark.parametrize(
    ("which", "version", "y"),
    [
        ({}, 2, 3.5),
        ({"version": 1}, 1, 2.5),
        ({"version": 2}, 2, 3.5),
        ({"label": "stable"}, 1, 2.5),
        ({"label": "canary"}, 2, 3.5),
    ],
)
def test_a_version_is_found_by_number_by_label_and_as_the_latest(predictions, which, version, y):
    response = predictions.Predict(request("affine", {"x": np.float32([1])}, **which))
    assert (response.model_spec.version.value, outputs(response)["y"].tolist()) == (version, [y])


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (predict_pb2.PredictRequest(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (request("", X), CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (request("nowhere", X), CODE.NOT_FOUND, "Servable not found for request: Latest(nowhere)"),
        (request("affine", X, version=9), CODE.NOT_FOUND, "Servable not found for request: Specific(affine, 9)"),
        (request("affine", X, label="old"), CODE.INVALID_ARGUMENT, "Unrecognized servable version label: old"),
        (
            request("affine", X, signature="guess"),
            CODE.FAILED_PRECONDITION,
            'Serving signature key "guess" not found.',
        ),
        (
            request("affine", {}),
            CODE.INVALID_ARGUMENT,
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            request("affine", {**X, "z": [1.0]}),
            CODE.INVALID_ARGUMENT,
            "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
            "Missing but required: {}.",
        ),
        (
            request("affine", {"z": [1.0]}),
            CODE.INVALID_ARGUMENT,
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {z}, or default input alias set: ",
        ),
        (
            request("affine", X, ["z"]),
            CODE.INVALID_ARGUMENT,
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
        ),
        (request("affine", X, ["y", "y"]), CODE.INVALID_ARGUMENT, "duplicate output tensor alias: y"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_code_and_message(predictions, message, code, said):
    assert refusal(predictions.Predict, message) == (code, said)


@pytest.mark.parametrize("x", [["a"], np.int32([1]), np.float64([1])])
def test_an_input_of_another_type_is_an_invalid_argument(predictions, x):
    assert refusal(predictions.Predict, request("affine", {"x": x}))[0] == CODE.INVALID_ARGUMENT


def test_what_the_model_itself_refuses_is_an_invalid_argument(predictions):
    message = request("half_plus_two", {"inputs": [b"no example"]}, signature="regress_x_to_y")
    assert refusal(predictions.Predict, message)[0] == CODE.INVALID_ARGUMENT


def metadata_request(model, fields=("signature_def",), **which):
    return spec(get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields), model, **which)


def metadata(predictions, model, **which):
    response = predictions.GetModelMetadata(metadata_request(model, **which))
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    return definitions


def test_metadata_tells_every_signature_as_it_was_saved(predictions):
    definitions = metadata(predictions, "half_plus_two").signature_def
    methods = {key: definition.method_name for key, definition in definitions.items()}
    assert methods == {
        "serving_default": "tensorflow/serving/predict",
        "regress_x_to_y": "tensorflow/serving/regress",
        "classify_x_to_y": "tensorflow/serving/classify",
    }
    x = definitions["serving_default"].inputs["x"]
    assert (x.name, x.dtype, [dimension.size for dimension in x.tensor_shape.dim]) == ("x:0", tf.float32, [-1])


def test_metadata_names_the_version_it_is_about(predictions):
    response = predictions.GetModelMetadata(metadata_request("affine", label="stable"))
    assert (response.model_spec.name, response.model_spec.version.value) == ("affine", 1)


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (
            metadata_request("affine", ()),
            CODE.INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (metadata_request("affine", ("size",)), CODE.INVALID_ARGUMENT, "Metadata field size is not supported"),
        (metadata_request("nowhere"), CODE.NOT_FOUND, "Servable not found for request: Latest(nowhere)"),
        (metadata_request("affine", version=9), CODE.NOT_FOUND, "Servable not found for request: Specific(affine, 9)"),
        (metadata_request("affine", label="old"), CODE.INVALID_ARGUMENT, "Unrecognized servable version label: old"),
    ],
)
def test_metadata_of_what_is_not_there_is_refused_with_code_and_message(predictions, message, code, said):
    assert refusal(predictions.GetModelMetadata, message) == (code, said)


def status_request(model, version=None):
    return spec(get_model_status_pb2.GetModelStatusRequest(), model, version)


def states(models, model, version=None):
    response = models.GetModelStatus(status_request(model, version))
    return {entry.version: (entry.state, entry.status.error_code) for entry in response.model_version_status}


def test_status_tells_every_version_or_one(models):
    available = (STATE.AVAILABLE, 0)
    assert states(models, "affine") == {1: available, 2: available}
    assert states(models, "affine", 1) == {1: available}


@pytest.mark.parametrize(
    ("message", "code", "said"),
    [
        (get_model_status_pb2.GetModelStatusRequest(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
        (status_request("nowhere"), CODE.NOT_FOUND, "Could not find any versions of model nowhere"),
        (status_request("affine", 9), CODE.NOT_FOUND, "Could not find version 9 of model affine"),
    ],
)
def test_status_of_what_is_not_there_is_refused_with_code_and_message(models, message, code, said):
    assert refusal(models.GetModelStatus, message) == (code, said)


def reload_request(served):
    message = model_management_pb2.ReloadConfigRequest()
    message.config.CopyFrom(served.config)
    return message


def entry(message, name):
    return next(config for config in message.config.model_config_list.config if config.name == name)


def test_a_model_taken_out_by_a_reload_ends_and_comes_back_by_the_next(served, predictions, models):
    without = reload_request(served)
    without.config.model_config_list.config.remove(entry(without, "mixed"))
    assert models.HandleReloadConfigRequest(without).status.error_code == 0
    assert refused_in_the_end(predictions.Predict, request("mixed", MIXED)) == CODE.NOT_FOUND
    assert models.HandleReloadConfigRequest(reload_request(served)).status.error_code == 0
    assert outputs(predictions.Predict(request("mixed", MIXED)))["more"].tolist() == [2, 3]


def test_a_label_moves_to_another_version_that_serves_and_back(served, predictions, models):
    moved = reload_request(served)
    entry(moved, "affine").version_labels["stable"] = 2
    models.HandleReloadConfigRequest(moved)
    answered = predictions.Predict(request("affine", X, label="stable")).model_spec.version.value
    models.HandleReloadConfigRequest(reload_request(served))
    assert answered == 2


def _twice(message):
    message.config.model_config_list.config.add().CopyFrom(entry(message, "affine"))


def _relative(message):
    entry(message, "affine").base_path = "affine"


def _other_platform(message):
    entry(message, "affine").model_platform = "pytorch"


def _custom(message):
    message.config.custom_model_config.SetInParent()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_twice, "Illegal to list model affine multiple times in config list"),
        (_relative, "Expected model affine to have an absolute path or URI; got base_path()=affine"),
        (
            _other_platform,
            "Illegal to change a model's platform. For model affine platform was tensorflow and new platform requested "
            "is pytorch",
        ),
        (
            _custom,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        ),
    ],
)
def test_a_reload_that_cannot_be_is_an_invalid_argument_and_changes_nothing(
    served, predictions, models, change, said
):
    message = reload_request(served)
    change(message)
    assert refusal(models.HandleReloadConfigRequest, message) == (CODE.INVALID_ARGUMENT, said)
    assert predictions.Predict(request("affine", X)).model_spec.version.value == 2


def test_health_checks_say_serving(channel):
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert response.status == health_pb2.HealthCheckResponse.SERVING

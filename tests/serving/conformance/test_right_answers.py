"""Answers that a client meets now and then, and that are easily got wrong."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import predict_pb2

CODE = grpc.StatusCode


def request(model, signature="", **inputs):
    message = predict_pb2.PredictRequest()
    message.model_spec.name, message.model_spec.signature_name = model, signature
    for alias, value in inputs.items():
        message.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return message


def refusal(call, message):
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=60)
    return raised.value.code(), raised.value.details()


def test_numbers_are_answered_in_the_field_of_their_type(predictions):
    found = predictions.Predict(request("half_plus_two", x=np.float32([1, 2]))).outputs["y"]
    assert list(found.float_val) == [2.5, 3.0] and not found.tensor_content
    mixed = {"point": np.float32([[1, 2]]), "count": np.int64([1]), "text": ["a"]}
    outputs = predictions.Predict(request("mixed", **mixed)).outputs
    assert list(outputs["more"].int64_val) == [2] and list(outputs["echo_bytes"].string_val) == [b"a\xff"]


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health_answers_for_the_names_that_are_registered(channel, service):
    response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert response.status == health_pb2.HealthCheckResponse.SERVING


def test_the_status_of_a_model_without_a_name_is_not_found(models):
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.SetInParent()
    assert refusal(models.GetModelStatus, message) == (CODE.NOT_FOUND, "Could not find any versions of model ")


@pytest.mark.parametrize(("word", "answered"), [("Inf", "Infinity"), ("-Inf", "-Infinity")])
def test_infinity_may_be_written_short(rest, word, answered):
    reply = rest.post("/v1/models/affine:predict", content=f'{{"instances": [{word}, 1.0], "x": "Inf"}}')
    assert reply.status_code == 200 and answered in reply.text


def test_halves_are_numbers_over_rest(rest):
    reply = rest.post("/v1/models/odd:predict", json={"signature_name": "half", "instances": [1.5, -2.0]})
    assert reply.json() == {"predictions": [{"bfloat16": 1.5, "half": 1.5}, {"bfloat16": -2.0, "half": -2.0}]}


def test_halves_are_halves_over_grpc(predictions):
    outputs = predictions.Predict(request("odd", "half", x=np.float32([1.5, -2.0]))).outputs
    assert tf.make_ndarray(outputs["half"]).tolist() == [1.5, -2.0]
    assert outputs["bfloat16"].dtype == tf.bfloat16 and len(outputs["bfloat16"].half_val) == 2


def test_a_tensor_of_forty_dimensions_is_an_invalid_argument(predictions):
    message = request("affine")
    message.inputs["x"].dtype = tf.float32.as_datatype_enum
    message.inputs["x"].float_val.append(1.0)
    for _ in range(40):
        message.inputs["x"].tensor_shape.dim.add(size=1)
    assert refusal(predictions.Predict, message)[0] == CODE.INVALID_ARGUMENT


def test_nested_lists_of_forty_dimensions_are_an_invalid_argument(rest):
    reply = rest.post("/v1/models/affine:predict", content=b'{"instances": ' + b"[" * 40 + b"1.0" + b"]" * 40 + b"}")
    assert reply.status_code == 400


def test_a_signature_whose_dtype_lies_is_an_invalid_argument(predictions):
    code, details = refusal(predictions.Predict, request("odd", "liar", x=np.int32([1])))
    assert code == CODE.INVALID_ARGUMENT and ".py" not in details


def test_a_signature_whose_dtype_lies_is_an_invalid_argument_over_rest(rest):
    reply = rest.post("/v1/models/odd:predict", json={"signature_name": "liar", "instances": [1]})
    assert reply.status_code == 400 and ".py" not in reply.json()["error"]

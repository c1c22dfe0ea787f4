"""JSON to tensors, for the types the tiny model has none of."""

import base64
import contextlib
import gc

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from longtail.serving.model_server.rest import json_requests
from longtail.serving.model_server.runtime import request_errors


def test_nan_and_infinity_are_read_as_bare_tokens():
    document = json_requests.parse(b'{"instances": [NaN, -Infinity, 1]}')
    inputs, _ = json_requests.inputs_of(document, {"x": tf.TensorSpec([None], tf.float32)})
    np.testing.assert_array_equal(inputs["x"], [np.nan, -np.inf, 1.0])


def test_several_inputs_come_as_objects():
    specs = {"a": tf.TensorSpec([None], tf.int32), "b": tf.TensorSpec([None], tf.string)}
    document = {"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": {"b64": "eQ=="}}]}
    inputs, rows = json_requests.inputs_of(document, specs)
    assert rows and inputs["a"].tolist() == [1, 2] and inputs["b"].tolist() == [b"x", b"y"]


def test_several_inputs_cannot_come_as_a_plain_list():
    specs = {"a": tf.TensorSpec([None], tf.int32), "b": tf.TensorSpec([None], tf.int32)}
    with pytest.raises(request_errors.RequestError, match="instances is a plain list, but expecting list of objects"):
        json_requests.inputs_of({"instances": [1, 2]}, specs)


@pytest.mark.parametrize(
    ("text", "found"),
    [("QQ==", b"A"), ("QQ", b"A"), ("QUI", b"AB"), ("Q Q\n==", b"A"), ("", b""), ("AAA=", b"\0\0"), ("AAAA", bytes(3))],
)
def test_base64_is_read_padded_or_not_and_in_lines(text, found):
    inputs, _ = json_requests.inputs_of({"instances": [{"b64": text}]}, {"x": tf.TensorSpec([None], tf.string)})
    assert inputs["x"].tolist() == [found]


@pytest.mark.parametrize("text", ["Q", "QQ=QQ", "QQ==QQ==", "Q-__", "QQ=Q", 4 * "\u00e4"])
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(request_errors.RequestError, match="Unable to base64 decode"):
        json_requests.inputs_of({"inputs": [{"b64": text}]}, {"x": tf.TensorSpec([None], tf.string)})


@hypothesis.given(strategies.binary(), strategies.booleans())
def test_any_bytes_survive_base64(data, is_padded):
    text = base64.b64encode(data).decode()
    document = {"inputs": {"b64": text if is_padded else text.rstrip("=")}}
    inputs, _ = json_requests.inputs_of(document, {"x": tf.TensorSpec([], tf.string)})
    assert inputs["x"].item() == data


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (2**63, tf.int64, "is not of expected type: int64"),
        (-1, tf.uint64, "is not of expected type: uint64"),
        (True, tf.int32, "JSON Value: True is not of expected type: int32"),
        (True, tf.float32, "is not of expected type: float"),
        (1, tf.bool, "is not of expected type: bool"),
        (10**400, tf.float64, "too big"),
        (1, tf.complex64, "Conversion of JSON Value: .* to type: complex64"),
    ],
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_number_is_taken_only_for_what_it_is(value, dtype, said, key):
    with pytest.raises(request_errors.RequestError, match=said):
        json_requests.inputs_of({key: [value]}, {"x": tf.TensorSpec(None, dtype)})


def test_the_largest_whole_numbers_are_exact():
    inputs, _ = json_requests.inputs_of({"inputs": [2**64 - 1, 1]}, {"x": tf.TensorSpec(None, tf.uint64)})
    assert inputs["x"].tolist() == [2**64 - 1, 1]


def test_what_is_beyond_float32_is_infinite():
    inputs, _ = json_requests.inputs_of({"inputs": [1e39, -1e39]}, {"x": tf.TensorSpec(None, tf.float32)})
    assert inputs["x"].tolist() == [np.inf, -np.inf]


def test_colons_in_strings_are_no_keys():
    assert json_requests.parse(b'{"instances": ["a:b"], "x": {"y": ["::"]}}')["instances"] == ["a:b"]


json_values = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats(allow_nan=False)
    | strategies.text(max_size=5),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(strategies.sampled_from(["b64", "x", "y"]), inner, max_size=2)
    ),
    max_leaves=12,
)


@hypothesis.given(
    json_values,
    strategies.sampled_from([tf.string, tf.float32, tf.uint8, tf.int64, tf.bool]),
    strategies.sampled_from(["instances", "inputs"]),
)
def test_whatever_is_sent_is_a_tensor_or_a_request_error(value, dtype, key):
    try:
        inputs, _ = json_requests.inputs_of({key: value}, {"x": tf.TensorSpec([None], dtype)})
    except request_errors.RequestError as error:
        assert error.http_status == 400
    else:
        assert inputs["x"].dtype == dtype.as_numpy_dtype


@pytest.mark.parametrize("value", [b"1,", b"[],", b'{"a":1},'])
def test_more_values_than_can_be_read_in_a_moment_are_refused(value):
    with pytest.raises(request_errors.RequestError, match="more than 4194304 values"):
        json_requests.parse(b'{"instances":[' + value * 2**22 + b"1]}")


@pytest.mark.parametrize("end", [b"]}", b"", b',{"a":1,"a":2}]}'])
def test_a_large_document_read_or_not_leaves_the_garbage_collector_on(end):
    with contextlib.suppress(request_errors.RequestError):
        json_requests.parse(b'{"instances":[' + b"1," * 50_000 + b"1" + end)
    assert gc.isenabled()

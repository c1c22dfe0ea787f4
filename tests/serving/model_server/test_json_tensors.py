"""JSON to tensors and back, for the types the tiny model has none of."""

import json
import math

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from serving.model_server import json_tensors
from serving.model_server import request_errors


def test_nan_and_infinity_are_read_as_bare_tokens():
    document = json_tensors.parse(b'{"instances": [NaN, -Infinity, 1]}')
    inputs, _ = json_tensors.inputs_of(document, {"x": tf.TensorSpec([None], tf.float32)})
    np.testing.assert_array_equal(inputs["x"], [np.nan, -np.inf, 1.0])


def test_nan_is_written_as_a_bare_token():
    answer = json_tensors.answer({"x": np.array([np.nan, 1.0], np.float32)}, rows=True)
    assert json.dumps(answer) == '{"predictions": [NaN, 1.0]}'


def test_outputs_named_bytes_are_base64_and_others_are_text():
    array = np.array([b"\xff"], object)
    assert json_tensors.answer({"x_bytes": array}, True) == {"predictions": [{"b64": "/w=="}]}
    assert json_tensors.answer({"x": np.array([b"abc"], object)}, True) == {"predictions": ["abc"]}


def test_one_output_in_columns_stands_without_its_name():
    assert json_tensors.answer({"x": np.array([[1, 2]])}, rows=False) == {"outputs": [[1, 2]]}


def test_several_inputs_come_as_objects():
    specs = {"a": tf.TensorSpec([None], tf.int32), "b": tf.TensorSpec([None], tf.string)}
    document = {"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": {"b64": "eQ=="}}]}
    inputs, rows = json_tensors.inputs_of(document, specs)
    assert rows and inputs["a"].numpy().tolist() == [1, 2] and inputs["b"].numpy().tolist() == [b"x", b"y"]


def test_several_inputs_cannot_come_as_a_plain_list():
    specs = {"a": tf.TensorSpec([None], tf.int32), "b": tf.TensorSpec([None], tf.int32)}
    with pytest.raises(request_errors.RequestError, match="several inputs: a, b"):
        json_tensors.inputs_of({"instances": [1, 2]}, specs)


def test_outputs_of_different_lengths_cannot_be_rows():
    with pytest.raises(request_errors.RequestError, match="differ in their number of rows"):
        json_tensors.answer({"a": np.zeros(2), "b": np.zeros(3)}, rows=True)


@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        np.float32,
        hypothesis.extra.numpy.array_shapes(min_dims=2, max_dims=2),
        elements=strategies.floats(width=32),
    )
)
def test_floats_survive_the_way_out_and_in_exactly(array):
    text = json.dumps({"inputs": json_tensors.answer({"x": array}, rows=False)["outputs"]}).encode()
    inputs, _ = json_tensors.inputs_of(json_tensors.parse(text), {"x": tf.TensorSpec(None, tf.float32)})
    np.testing.assert_array_equal(inputs["x"].numpy(), array)


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
        inputs, _ = json_tensors.inputs_of({key: value}, {"x": tf.TensorSpec([None], dtype)})
    except request_errors.RequestError as error:
        assert error.http_status == 400
    else:
        assert inputs["x"].dtype == dtype and not math.isnan(inputs["x"].shape.rank)

"""Answers are written as TF Serving writes them, and can be read again without a loss."""

import json

import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies

from longtail.serving.model_server.rest import json_answers
from longtail.serving.model_server.rest import json_requests
from longtail.serving.model_server.runtime import request_errors


def test_what_is_not_finite_is_written_as_a_bare_token_and_the_rest_in_the_fewest_digits():
    outputs = {"x": np.array([[np.nan, 0.1], [np.inf, -np.inf]], np.float32)}
    assert json_answers.answer(outputs, True) == b'{"predictions":[[NaN,0.1],[Infinity,-Infinity]]}'
    both = {**outputs, "s": np.array([b"null", b"a"], object)}
    rows = [b'{"x":[NaN,0.1],"s":"null"}', b'{"x":[Infinity,-Infinity],"s":"a"}']
    assert json_answers.answer(both, True) == b'{"predictions":[%b]}' % b",".join(rows)


def test_a_single_value_is_written_without_brackets():
    outputs = {"x": np.array(0.1, np.float32), "y": np.array(np.nan, np.float32), "z": np.array(b"a", object)}
    assert json_answers.answer(outputs, False) == b'{"outputs":{"x":0.1,"y":NaN,"z":"a"}}'


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,)])
def test_what_is_empty_is_written_in_its_shape(shape):
    found = json.loads(json_answers.answer({"x": np.zeros(shape, np.float32)}, False))["outputs"]
    assert np.shape(found)[: len(np.shape(found))] == shape[: len(np.shape(found))] and np.size(found) == 0


def test_arrays_that_are_not_contiguous_or_of_a_type_json_lacks_are_written():
    whole = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert json.loads(json_answers.answer({"x": whole.T}, True)) == {"predictions": whole.T.tolist()}
    short = tf.constant([1.5, 2.0], tf.bfloat16).numpy()
    assert json_answers.answer({"x": short}, True) == b'{"predictions":[1.5,2.0]}'
    with pytest.raises(request_errors.RequestError, match="Failed to write JSON value for tensor type: complex64"):
        json_answers.answer({"x": np.zeros(2, np.complex64)}, True)


def test_outputs_named_bytes_are_base64_and_others_are_text():
    array = np.array([b"\xff\x00"], object)
    assert json_answers.answer({"x_bytes": array}, True) == b'{"predictions":[{"b64":"/wA="}]}'
    assert json_answers.answer({"x": np.array([b"a\xff"], object)}, True).decode() == '{"predictions":["a\ufffd"]}'


def test_one_output_in_columns_stands_without_its_name():
    assert json_answers.answer({"x": np.array([[1, 2]])}, False) == b'{"outputs":[[1,2]]}'


def test_outputs_of_different_lengths_cannot_be_rows():
    with pytest.raises(request_errors.RequestError, match="Tensor name: b has inconsistent batch size: 3 expecting: 2"):
        json_answers.answer({"a": np.zeros(2), "b": np.zeros(3)}, True)
    with pytest.raises(request_errors.RequestError, match="Tensor name: a has no shape information"):
        json_answers.answer({"a": np.zeros(())}, True)


@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        np.float32,
        hypothesis.extra.numpy.array_shapes(min_dims=2, max_dims=2),
        elements=strategies.floats(width=32),
    )
)
def test_floats_survive_the_way_out_and_in_exactly(array):
    text = json_answers.answer({"x": array}, False).replace(b"outputs", b"inputs")
    inputs, _ = json_requests.inputs_of(json_requests.parse(text), {"x": tf.TensorSpec(None, tf.float32)})
    np.testing.assert_array_equal(inputs["x"], array)

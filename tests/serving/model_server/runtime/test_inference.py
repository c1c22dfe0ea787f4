"""Requests are read, and answers written, as TensorFlow and TF Serving do it."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from longtail.models.export import signatures
from longtail.serving.model_server.runtime import inference
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from tests.serving.model_server import small_models

DTYPES = [tf.float32, tf.string, tf.bool, tf.bfloat16, tf.int64]


@pytest.fixture(scope="module")
def servable(tmp_path_factory):
    path = small_models.write_of_dtypes(tmp_path_factory.mktemp("types") / "1", DTYPES)
    loaded = servable_lib.Servable("types", 7, path)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 2), (1,), (300, 2)])
def test_an_answer_is_what_tensorflow_reads(servable, dtype, shape, as_content):
    array = np.ones(shape).astype(dtype.as_numpy_dtype) if dtype != tf.string else np.full(shape, b"a" * 200, object)
    response = inference.response_of(servable, dtype.name, {"x": array}, as_content)
    [(alias, tensor)] = response.outputs.items()
    assert alias == "x" and tensor.dtype == dtype.as_datatype_enum
    assert bool(tensor.tensor_content) == (as_content and bool(array.size) and dtype != tf.string)
    assert [dim.size for dim in tensor.tensor_shape.dim] == list(shape)
    found = tf.make_ndarray(tensor)
    assert found.shape == shape and (found == array).all()
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("types", 7, dtype.name)


def test_the_rows_of_a_larger_array_are_written_alone(servable):
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    response = inference.response_of(servable, "float32", {"x": array[2:4]})
    assert tf.make_ndarray(response.outputs["x"]).tolist() == [[4.0, 5.0], [6.0, 7.0]]


def test_several_outputs_are_written(tiny_saved_model):
    loaded = servable_lib.Servable("tiny", 1, str(tiny_saved_model / "1"))
    outputs = loaded.signature("").run({signatures.IMAGE_BYTES: np.array([b""], object)})
    response = inference.response_of(loaded, "", outputs)
    loaded.close()
    assert sorted(response.outputs) == sorted(outputs)
    assert response.model_spec.signature_name == signatures.SERVING
    for alias, array in outputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(response.outputs[alias]), array)


def test_an_input_the_signature_does_not_have_is_refused(servable):
    request = predict_pb2.PredictRequest()
    request.inputs["y"].CopyFrom(tf.make_tensor_proto([1.0]))
    with pytest.raises(request_errors.RequestError):
        inference.inputs_of(servable.signature("float32"), request)

"""Protos are read as TensorFlow reads them, and those that contradict themselves are refused."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import tensors

NUMBERS = [
    *(tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.complex64, tf.complex128, tf.bool),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
]


def spec(dtype, shape=None):
    info = meta_graph_pb2.TensorInfo(name="x:0", dtype=dtype.as_datatype_enum)
    info.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return tensors.Spec(info)


def listed(dtype, values, shape):
    """A proto that holds its numbers one by one."""
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    array = np.array(values, dtype.as_numpy_dtype)
    if dtype in (tf.float16, tf.bfloat16):
        proto.half_val.extend(array.view(np.uint16).tolist())
    elif dtype.is_complex:
        name = "scomplex_val" if dtype == tf.complex64 else "dcomplex_val"
        getattr(proto, name).extend(part for value in array.tolist() for part in (value.real, value.imag))
    else:
        names = {tf.float32: "float", tf.float64: "double", tf.bool: "bool", tf.int64: "int64", tf.uint32: "uint32"}
        names[tf.uint64] = "uint64"
        getattr(proto, f"{names.get(dtype, 'int')}_val").extend(array.tolist())
    return proto


def read(proto):
    return tensors.from_proto("x", proto, spec(tf.as_dtype(proto.dtype)))


def assert_as_tensorflow_reads_it(proto):
    expected = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    found = read(proto)
    assert found.shape == np.shape(expected) and (found == expected).all()
    assert found.dtype == np.asarray(expected).dtype or proto.dtype == types_pb2.DT_STRING


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_numbers_one_by_one_are_filled_up_with_the_last_as_tensorflow_does(dtype, count):
    assert_as_tensorflow_reads_it(listed(dtype, [1, 0, 2, 1, 3, 5][:count], [2, 3]))


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [[], [0], [2, 3]])
def test_packed_numbers_are_read_as_tensorflow_does(dtype, shape):
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype.as_numpy_dtype)
    assert_as_tensorflow_reads_it(tf.make_tensor_proto(array, dtype))
    proto = listed(dtype, [], shape)
    proto.tensor_content = array.tobytes()
    found = read(proto)
    assert found.shape == tuple(shape) and (found == array).all()


@pytest.mark.parametrize("values", [[], [b"a"], [b"", b"ab", b"c" * 300], [b"a", b"b", b"c", b"d"]])
@pytest.mark.parametrize("shape", [[3], [1, 3], []])
def test_strings_one_by_one_are_read_as_tensorflow_does(values, shape):
    proto = listed(tf.float32, [], shape)
    proto.dtype = types_pb2.DT_STRING
    proto.string_val.extend(values)
    assert_as_tensorflow_reads_it(proto)


def test_packed_strings_are_read_as_tensorflow_does():
    proto = listed(tf.float32, [], [2, 2])
    proto.dtype = types_pb2.DT_STRING
    proto.tensor_content = b"\x00\x02\xac\x02\x01" + b"ab" + b"c" * 300 + b"d"
    assert_as_tensorflow_reads_it(proto)


@pytest.mark.parametrize("content", [b"\x01", b"\x05abc", b"\x01ab", b"\xff" * 20])
def test_packed_strings_that_contradict_themselves_are_refused(content):
    proto = listed(tf.float32, [], [1])
    proto.dtype = types_pb2.DT_STRING
    proto.tensor_content = content
    with pytest.raises(request_errors.RequestError):
        read(proto)


def huge(dtype):
    proto = listed(tf.float32, [], [1 << 40])
    proto.dtype = dtype
    return proto


def sized(*sizes):
    proto = listed(tf.float32, [1.0], [1])
    del proto.tensor_shape.dim[:]
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto",
    [
        *(huge(types_pb2.DT_FLOAT), huge(types_pb2.DT_STRING)),
        *(sized(-1), sized(1 << 62, 1 << 62), sized(*[1] * 300)),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={"unknown_rank": True}),
        tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"abc"),
    ],
)
def test_what_cannot_be_a_tensor_is_refused_without_making_one(proto):
    with pytest.raises(request_errors.RequestError):
        read(proto)


@pytest.mark.parametrize("dtype", [types_pb2.DT_INVALID, types_pb2.DT_DOUBLE, types_pb2.DT_RESOURCE, 999])
def test_another_type_is_refused(dtype):
    with pytest.raises(request_errors.RequestError):
        tensors.from_proto("x", tensor_pb2.TensorProto(dtype=dtype), spec(tf.float32))


@pytest.mark.parametrize(
    ("shape", "fits"), [([2, 3], True), ([7, 3], True), ([2, 4], False), ([3], False), ([2, 3, 1], False), ([], False)]
)
def test_a_shape_fits_where_every_size_that_is_stated_does(shape, fits):
    taken = spec(tf.float32, [None, 3])
    if fits:
        taken.check_shape("x", shape)
    else:
        with pytest.raises(request_errors.RequestError):
            taken.check_shape("x", shape)


def test_an_open_rank_takes_any_shape():
    for shape in ([], [1], [2, 3, 4]):
        spec(tf.float32).check_shape("x", shape)


@pytest.mark.parametrize("array", [np.array([[1.5]], np.float32), np.array([b"a", b"\xff"], object), np.array(3)])
def test_what_is_written_is_what_tensorflow_reads(array):
    proto = tensor_pb2.TensorProto()
    tensors.fill_proto(proto, array)
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)

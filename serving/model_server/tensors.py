"""Turns protos into tensors and back, checked against the signature, without copying more than it must."""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2

from serving.model_server import request_errors

# A proto may state a large shape and one value to fill it with. This is the most such a short request may grow to.
_MAX_FILLED_BYTES = 1 << 28
_MAX_RANK = 253  # more dimensions TensorFlow's tensors cannot have
_STRING_BYTES = 24  # what an empty string takes in a tensor


def check_rank(alias: str, rank: int) -> None:
    """Raises INVALID_ARGUMENT where no tensor could have so many dimensions."""
    if rank > _MAX_RANK:
        raise request_errors.invalid(f"input {alias}: it has {rank} dimensions; a tensor has at most {_MAX_RANK}")


def check(alias: str, dtype: int, shape: tf.TensorShape, spec: tf.TensorSpec) -> None:
    """Raises INVALID_ARGUMENT where a tensor is not what the signature's input `alias` takes."""
    if dtype != spec.dtype.as_datatype_enum:
        known = types_pb2.DataType.Name(dtype) if dtype in types_pb2.DataType.values() else str(dtype)
        wanted = types_pb2.DataType.Name(spec.dtype.as_datatype_enum)
        raise request_errors.invalid(f"input {alias}: expects {wanted} but {known} is provided")
    if not spec.shape.is_compatible_with(shape):
        raise request_errors.invalid(f"input {alias}: expects shape {_text(spec.shape)} but {_text(shape)} is provided")


def _text(shape: tf.TensorShape) -> str:
    if shape.rank is None:
        return "[?]"
    return f"[{','.join('?' if size is None else str(size) for size in shape.as_list())}]"


def _shape(alias: str, proto: tensor_pb2.TensorProto) -> tf.TensorShape:
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise request_errors.invalid(f"input {alias}: its shape is not fully stated")
    check_rank(alias, len(sizes))
    return tf.TensorShape(sizes)


def from_proto(alias: str, proto: tensor_pb2.TensorProto, spec: tf.TensorSpec) -> tf.Tensor:
    """The tensor in `proto`, for the input `alias`.

    Raises:
      RequestError: INVALID_ARGUMENT for another dtype or shape than `spec` has, or a proto that contradicts itself.
    """
    shape = _shape(alias, proto)
    check(alias, proto.dtype, shape, spec)
    count = shape.num_elements()
    if proto.dtype == types_pb2.DT_STRING and len(proto.string_val) == count:
        # Encoded images come this way; every other path would copy them twice.
        return tf.constant(list(proto.string_val), tf.string, shape)
    size = _STRING_BYTES if proto.dtype == types_pb2.DT_STRING else spec.dtype.size
    if count * size > max(_MAX_FILLED_BYTES, 8 * proto.ByteSize()):
        raise request_errors.invalid(f"input {alias}: shape {_text(shape)} is far larger than what was sent")
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), spec.dtype)
    except tf.errors.OpError as error:
        raise request_errors.invalid(f"input {alias}: its values do not fill {_text(shape)}") from error


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """`array` as a proto: numbers as raw bytes, strings one by one."""
    dtype = tf.as_dtype(array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.CopyFrom(tf.TensorShape(array.shape).as_proto())
    if array.dtype == np.object_:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto

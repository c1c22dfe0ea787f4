"""Turns protos into arrays and back, checked against the signature, without copying more than it must."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from longtail.serving.model_server import request_errors

# A proto may state a large shape and one value to fill it with. This is the most such a short request may grow to:
# it is filled while other requests wait.
_MAX_FILLED_BYTES = 1 << 24
_MAX_RANK = 253  # more dimensions TensorFlow's tensors cannot have
_STRING_BYTES = 24  # what an empty string takes in a tensor

# Where a proto holds numbers one by one, and as which type.
_FIELDS = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
    types_pb2.DT_COMPLEX64: ("scomplex_val", np.float32),  # real, imaginary, real, ...
    types_pb2.DT_COMPLEX128: ("dcomplex_val", np.float64),
    types_pb2.DT_HALF: ("half_val", np.int32),  # their bits
    types_pb2.DT_BFLOAT16: ("half_val", np.int32),
}
_FOUR_BYTES = ("int_val", np.int32)  # the narrower integers too


class Spec:
    """What a signature takes or gives under one alias.

    Attributes:
      name: of the tensor in the graph.
      dtype: its type.
      shape: its shape, sizes that are open None.
      number: the type as a DataType.
      numpy: the type as NumPy's; strings are objects.
      dims: the shape as a tuple, None where even the rank is open.
    """

    def __init__(self, info: meta_graph_pb2.TensorInfo):
        self.name = info.name
        self.dtype = tf.as_dtype(info.dtype)
        self.shape = tf.TensorShape(info.tensor_shape)
        self.number = info.dtype
        self.numpy = np.dtype(self.dtype.as_numpy_dtype)
        self.dims = None if self.shape.rank is None else tuple(self.shape.as_list())

    def check_shape(self, alias: str, shape: Sequence[int]) -> None:
        """Raises INVALID_ARGUMENT where a tensor of `shape` is not what the input `alias` takes."""
        dims = self.dims
        if dims is None:
            return
        if len(shape) == len(dims):
            for size, wanted in zip(shape, dims, strict=True):
                if wanted is not None and size != wanted:
                    break
            else:
                return
        raise request_errors.invalid(f"input {alias}: expects shape {_text(dims)} but {_text(shape)} is provided")

    def check_dtype(self, alias: str, number: int) -> None:
        """Raises INVALID_ARGUMENT where a tensor of type `number` is not what the input `alias` takes."""
        if number != self.number:
            known = types_pb2.DataType.Name(number) if number in types_pb2.DataType.values() else str(number)
            wanted = types_pb2.DataType.Name(self.number)
            raise request_errors.invalid(f"input {alias}: expects {wanted} but {known} is provided")


def check_rank(alias: str, rank: int) -> None:
    """Raises INVALID_ARGUMENT where no tensor could have so many dimensions."""
    if rank > _MAX_RANK:
        raise request_errors.invalid(f"input {alias}: it has {rank} dimensions; a tensor has at most {_MAX_RANK}")


def _text(dims: Sequence[int | None] | None) -> str:
    return "[?]" if dims is None else f"[{','.join('?' if size is None else str(size) for size in dims)}]"


def _shape(alias: str, proto: tensor_pb2.TensorProto) -> list[int]:
    stated = proto.tensor_shape
    sizes = [dimension.size for dimension in stated.dim]
    if stated.unknown_rank or min(sizes, default=0) < 0:
        raise request_errors.invalid(f"input {alias}: its shape is not fully stated")
    check_rank(alias, len(sizes))
    return sizes


def _strings(content: bytes, count: int) -> list[bytes] | None:
    """What TensorFlow packs strings to: all lengths as varints, then all bytes. None where it is not that."""
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                return None
            byte = content[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        return None
    found = []
    for length in lengths:
        found.append(content[at : at + length])
        at += length
    return found


def _objects(proto: tensor_pb2.TensorProto, count: int) -> np.ndarray | None:
    found = list(proto.string_val)[:count]
    if len(found) != count:
        unpacked = _strings(proto.tensor_content, count) if proto.tensor_content else None
        if proto.tensor_content and unpacked is None:
            return None
        found = unpacked or found + (found[-1:] or [b""]) * (count - len(found))
    array = np.empty(count, object)
    array[:] = found
    return array


def _numbers(proto: tensor_pb2.TensorProto, count: int, spec: Spec) -> np.ndarray | None:
    """As TensorFlow reads them: values that are left out are the last one that is there, or 0."""
    if proto.tensor_content:
        content = proto.tensor_content
        return np.frombuffer(content, spec.numpy) if len(content) == count * spec.numpy.itemsize else None
    field, dtype = _FIELDS.get(proto.dtype, _FOUR_BYTES)
    values = np.array(getattr(proto, field), dtype)
    if field.endswith("complex_val"):
        values = values[: values.size // 2 * 2].view(spec.numpy)
    elif field == "half_val":
        values = values.astype(np.uint16).view(spec.numpy)
    else:
        values = values.astype(spec.numpy)
    if values.size < count:
        filled = np.zeros(count, spec.numpy)
        filled[: values.size] = values
        if values.size:
            filled[values.size :] = values[-1]
        return filled
    return values[:count]


def from_proto(alias: str, proto: tensor_pb2.TensorProto, spec: Spec) -> np.ndarray:
    """The array in `proto`, for the input `alias`; strings as objects.

    Raises:
      RequestError: INVALID_ARGUMENT for another dtype or shape than `spec` has, or a proto that contradicts itself.
    """
    shape = _shape(alias, proto)
    spec.check_dtype(alias, proto.dtype)
    spec.check_shape(alias, shape)
    is_string = spec.number == types_pb2.DT_STRING
    if is_string and len(shape) == 1 and len(proto.string_val) == shape[0]:
        return np.array(proto.string_val, object)  # encoded images come this way
    count = math.prod(shape)
    size = _STRING_BYTES if is_string else spec.numpy.itemsize
    if count * size > max(_MAX_FILLED_BYTES, 8 * proto.ByteSize()):
        raise request_errors.invalid(f"input {alias}: shape {_text(shape)} is far larger than what was sent")
    array = _objects(proto, count) if is_string else _numbers(proto, count, spec)
    if array is None:
        raise request_errors.invalid(f"input {alias}: its values do not fill {_text(shape)}")
    return array.reshape(shape)


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """`array` as a proto: numbers as raw bytes, strings one by one."""
    proto = tensor_pb2.TensorProto()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if array.dtype == np.object_:
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
        proto.tensor_content = array.tobytes()
    return proto

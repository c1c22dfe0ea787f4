"""Turns protos into arrays and back, checked against the signature before anything large is made of them."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from longtail.serving.model_server.runtime import request_errors

# A proto may state a large shape and one value to fill it with. This is the most such a short request may grow to.
_MAX_FILLED_BYTES = 1 << 24
MAX_RANK = 32  # of NumPy's arrays
_STRING_BYTES = 24  # what an empty string takes in a tensor

# Types whose fields are their bytes on the wire, too: the field's tag.
_PACKED = {types_pb2.DT_FLOAT: b"\x2a", types_pb2.DT_DOUBLE: b"\x32"}
_PACKED |= {types_pb2.DT_COMPLEX64: b"\x4a", types_pb2.DT_COMPLEX128: b"\x62"}
_FIELDS = {
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
}  # the narrower integers: int_val


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
        if dims is None or (
            len(shape) == len(dims) and all(want in (None, size) for want, size in zip(dims, shape, strict=True))
        ):
            return
        raise request_errors.invalid(f"input {alias}: expects shape {_text(dims)} but {_text(shape)} is provided")

    def check_dtype(self, alias: str, number: int) -> None:
        """Raises INVALID_ARGUMENT where a tensor of type `number` is not what the input `alias` takes."""
        if number != self.number:
            known = types_pb2.DataType.Name(number) if number in types_pb2.DataType.values() else str(number)
            wanted = types_pb2.DataType.Name(self.number)
            raise request_errors.invalid(f"input {alias}: expects {wanted} but {known} is provided")


def check_rank(alias: str, rank: int) -> None:
    """Raises INVALID_ARGUMENT where no array could have so many dimensions."""
    if rank > MAX_RANK:
        raise request_errors.invalid(f"input {alias}: it has {rank} dimensions; at most {MAX_RANK} can be")


def _text(dims: Sequence[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in dims)}]"


def from_proto(alias: str, proto: tensor_pb2.TensorProto, spec: Spec) -> np.ndarray:
    """The array in `proto`, for the input `alias`; strings as objects.

    Raises:
      RequestError: INVALID_ARGUMENT for another dtype or shape than `spec` has, or a proto that contradicts itself.
    """
    shape = [dimension.size for dimension in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise request_errors.invalid(f"input {alias}: its shape is not fully stated")
    check_rank(alias, len(shape))
    spec.check_dtype(alias, proto.dtype)
    spec.check_shape(alias, shape)
    is_string = spec.number == types_pb2.DT_STRING
    if is_string and len(shape) == 1 and len(proto.string_val) == shape[0]:
        return np.array(proto.string_val, object)  # encoded images come this way
    count = math.prod(shape)
    size = count * (_STRING_BYTES if is_string else spec.numpy.itemsize)
    if size == len(proto.tensor_content) and not is_string and size:
        return np.frombuffer(proto.tensor_content, spec.numpy).reshape(shape)  # and large arrays this way
    if size > max(_MAX_FILLED_BYTES, 8 * proto.ByteSize()):
        raise request_errors.invalid(f"input {alias}: shape {_text(shape)} is far larger than what was sent")
    try:
        found = tf.io.parse_tensor(proto.SerializeToString(), spec.dtype).numpy()
    except tf.errors.OpError as error:
        raise request_errors.invalid(f"input {alias}: its values do not fill {_text(shape)}") from error
    return np.asarray(found, spec.numpy).reshape(shape)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def fill_proto(proto: tensor_pb2.TensorProto, array: np.ndarray, as_content: bool = False) -> None:
    """Puts `array` into an empty proto: numbers in the field of their type, as TF Serving does, or as raw bytes."""
    proto.dtype = types_pb2.DT_STRING if array.dtype == np.object_ else tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content and proto.dtype != types_pb2.DT_STRING:
        proto.tensor_content = array.tobytes()
    elif proto.dtype in _PACKED:
        content = array.tobytes()
        proto.MergeFromString(_PACKED[proto.dtype] + _varint(len(content)) + content)
    else:
        field = _FIELDS.get(proto.dtype, "int_val")
        values = array.ravel().view(np.uint16) if field == "half_val" else array.ravel()
        getattr(proto, field).extend(values.tolist())

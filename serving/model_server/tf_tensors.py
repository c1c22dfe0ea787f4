"""Arrays as tensors of TensorFlow's C API, and tensors as arrays, copied once or not at all."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from longtail.serving.model_server import tf_library

_STRING_BYTES = 24  # of a TF_TString, without what it points to

_lent: dict[int, Any] = {}  # address -> memory of strings that TensorFlow has been fed


@ctypes.CFUNCTYPE(None, tf_library.Pointer, ctypes.c_size_t, tf_library.Pointer)
def _free_strings(at: int, size: int, _: Any) -> None:
    """Called by TensorFlow when nothing holds the tensor any more: a model may keep what it was fed."""
    for string in range(at, at + size, _STRING_BYTES):
        tf_library.string_free(string)
    del _lent[at]


def _new_strings(shape: Any, rank: int, size: int) -> int:
    memory = ctypes.create_string_buffer(size)
    at = ctypes.addressof(memory)
    _lent[at] = memory
    tensor: int = tf_library.new_tensor(types_pb2.DT_STRING, shape, rank, at, size, _free_strings, None)
    return tensor


def _fill(tensor: int, parts: Sequence[np.ndarray], shape: tuple[int, ...], size: int) -> None:
    first, at = parts[0], tf_library.data_of(tensor)
    if first.dtype == np.object_:
        for row, value in enumerate(value for part in parts for value in part.flat):
            tf_library.string_copy(at + row * _STRING_BYTES, value, len(value))
        return
    memory = np.frombuffer(memoryview((ctypes.c_char * size).from_address(at)), first.dtype).reshape(shape)
    if len(parts) > 1:
        np.concatenate(parts, out=memory)
    else:
        memory[...] = first


def feed(dtype: int, parts: Sequence[np.ndarray]) -> int:
    """A tensor to feed: the rows of several arrays, one after the other, copied once."""
    first = parts[0]
    shape = (sum(len(part) for part in parts), *first.shape[1:]) if len(parts) > 1 else first.shape
    is_string = dtype == types_pb2.DT_STRING
    size = sum(part.size for part in parts) * (_STRING_BYTES if is_string else first.itemsize)
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    if not size or not is_string:
        tensor: int = tf_library.allocate_tensor(dtype, sizes, len(shape), size)
    else:
        tensor = _new_strings(sizes, len(shape), size)
    try:
        if size:
            _fill(tensor, parts, shape, size)
    except BaseException:
        tf_library.delete_tensor(tensor)
        raise
    return tensor


class _Memory:
    """A tensor that TensorFlow made; the arrays that show it keep it alive."""

    def __init__(self, tensor: int, dtype: np.dtype, shape: tuple[int, ...]):
        self._tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"V{dtype.itemsize}" if dtype.kind == "V" else dtype.str,
            "shape": shape,
            "data": (tf_library.data_of(tensor), True),
        }

    def __del__(self) -> None:
        tf_library.delete_tensor(self._tensor)


def array(tensor: int) -> np.ndarray:
    """The values of a tensor, which the array owns from now on."""
    number, rank = tf_library.type_of(tensor), tf_library.rank_of(tensor)
    shape = tuple(tf_library.size_of(tensor, axis) for axis in range(rank))
    if number != types_pb2.DT_STRING:
        dtype = np.dtype(tf.as_dtype(number).as_numpy_dtype)
        if 0 in shape:
            tf_library.delete_tensor(tensor)
            return np.empty(shape, dtype)
        return np.asarray(_Memory(tensor, dtype, shape)).view(dtype)
    strings = np.empty(shape, object)
    flat, at = strings.reshape(-1), tf_library.data_of(tensor)
    for row in range(strings.size):
        string = at + row * _STRING_BYTES
        flat[row] = ctypes.string_at(tf_library.string_data(string), tf_library.string_size(string))
    tf_library.delete_tensor(tensor)
    return strings

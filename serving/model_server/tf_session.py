"""A SavedModel in TensorFlow's C API, as TF Serving itself loads it: no request waits for Python while one loads.

TensorFlow's Python loads the same model in two to six times the processor time, most of it under Python's global
lock, and frees it when the collector comes by. The C functions used here are TensorFlow's public, stable ones.
"""

import ctypes
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import meta_graph_pb2

_LIBRARY = os.path.join(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2")
# Through the one, Python's lock is let go during the call; through the other it is kept, which is cheaper for what is
# done in a microsecond, and saves it a wait for the lock.
_long = ctypes.CDLL(_LIBRARY)
_short = ctypes.PyDLL(_LIBRARY)

_Pointer = ctypes.c_void_p
_STRING_BYTES = 24  # of a TF_TString, without what it points to
_SAVER_FIELD, _SIGNATURE_FIELD = 3, 5  # of MetaGraphDef


class _Buffer(ctypes.Structure):
    _fields_ = (("data", _Pointer), ("length", ctypes.c_size_t), ("deallocator", _Pointer))


class _Output(ctypes.Structure):
    _fields_ = (("operation", _Pointer), ("index", ctypes.c_int))


def _function(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


_Sizes = ctypes.POINTER(ctypes.c_int64)
_new_status = _function(_short, "TF_NewStatus", _Pointer)
_delete_status = _function(_short, "TF_DeleteStatus", None, _Pointer)
_code = _function(_short, "TF_GetCode", ctypes.c_int, _Pointer)
_message = _function(_short, "TF_Message", ctypes.c_char_p, _Pointer)
_new_graph = _function(_short, "TF_NewGraph", _Pointer)
_delete_graph = _function(_long, "TF_DeleteGraph", None, _Pointer)
_operation = _function(_short, "TF_GraphOperationByName", _Pointer, _Pointer, ctypes.c_char_p)
_outputs_of = _function(_short, "TF_OperationNumOutputs", ctypes.c_int, _Pointer)
_new_options = _function(_short, "TF_NewSessionOptions", _Pointer)
_delete_options = _function(_short, "TF_DeleteSessionOptions", None, _Pointer)
_configure = _function(_short, "TF_SetConfig", None, _Pointer, ctypes.c_char_p, ctypes.c_size_t, _Pointer)
_new_buffer = _function(_short, "TF_NewBuffer", ctypes.POINTER(_Buffer))
_delete_buffer = _function(_short, "TF_DeleteBuffer", None, ctypes.POINTER(_Buffer))
_load = _function(
    _long,
    "TF_LoadSessionFromSavedModel",
    _Pointer,
    *(_Pointer, _Pointer, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int),
    *(_Pointer, ctypes.POINTER(_Buffer), _Pointer),
)
_run = _function(
    _long,
    "TF_SessionRun",
    None,
    *(_Pointer, _Pointer, ctypes.POINTER(_Output), ctypes.POINTER(_Pointer), ctypes.c_int),
    *(ctypes.POINTER(_Output), ctypes.POINTER(_Pointer), ctypes.c_int),
    *(ctypes.POINTER(_Pointer), ctypes.c_int, _Pointer, _Pointer),
)
_close = _function(_long, "TF_CloseSession", None, _Pointer, _Pointer)
_delete = _function(_long, "TF_DeleteSession", None, _Pointer, _Pointer)
_allocate = _function(_short, "TF_AllocateTensor", _Pointer, ctypes.c_int, _Sizes, ctypes.c_int, ctypes.c_size_t)
_delete_tensor = _function(_short, "TF_DeleteTensor", None, _Pointer)
_data = _function(_short, "TF_TensorData", _Pointer, _Pointer)
_type = _function(_short, "TF_TensorType", ctypes.c_int, _Pointer)
_rank = _function(_short, "TF_NumDims", ctypes.c_int, _Pointer)
_size = _function(_short, "TF_Dim", ctypes.c_int64, _Pointer, ctypes.c_int)
_string_copy = _function(_short, "TF_StringCopy", None, _Pointer, ctypes.c_char_p, ctypes.c_size_t)
_string_free = _function(_short, "TF_StringDealloc", None, _Pointer)
_string_data = _function(_short, "TF_StringGetDataPointer", _Pointer, _Pointer)
_string_size = _function(_short, "TF_StringGetSize", ctypes.c_size_t, _Pointer)


class _Status:
    """A status of TensorFlow's; leaving it raises what it holds."""

    def __enter__(self) -> int:
        self._status = _new_status()
        return self._status

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        code, message = _code(self._status), _message(self._status).decode(errors="replace")
        _delete_status(self._status)
        if code and error is None:
            raise tf.compat.v1.errors.exception_type_from_error_code(code)(None, None, message)


class _Fed:
    """A tensor to feed: the rows of several arrays, one after the other, copied once."""

    def __init__(self, dtype: int, parts: Sequence[np.ndarray]):
        first = parts[0]
        shape = (sum(len(part) for part in parts), *first.shape[1:]) if len(parts) > 1 else first.shape
        self._strings = [value for part in parts for value in part.flat] if dtype == types_pb2.DT_STRING else []
        is_string = dtype == types_pb2.DT_STRING
        size = sum(part.size for part in parts) * (_STRING_BYTES if is_string else first.itemsize)
        self.tensor = _allocate(dtype, (ctypes.c_int64 * len(shape))(*shape), len(shape), size)
        self._at = _data(self.tensor)
        if is_string:
            ctypes.memset(self._at, 0, size)
            for row, value in enumerate(self._strings):
                _string_copy(self._at + row * _STRING_BYTES, value, len(value))
        elif size:
            view = memoryview((ctypes.c_char * size).from_address(self._at))
            memory = np.frombuffer(view, first.dtype).reshape(shape)
            if len(parts) > 1:
                np.concatenate(parts, out=memory)
            else:
                memory[...] = first

    def free(self) -> None:
        for row in range(len(self._strings)):
            _string_free(self._at + row * _STRING_BYTES)
        _delete_tensor(self.tensor)


class _Memory:
    """A tensor that TensorFlow made; the arrays that show it keep it alive."""

    def __init__(self, tensor: int, dtype: np.dtype, shape: tuple[int, ...]):
        self._tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "typestr": f"V{dtype.itemsize}" if dtype.kind == "V" else dtype.str,
            "shape": shape,
            "data": (_data(tensor), True),
        }

    def __del__(self) -> None:
        _delete_tensor(self._tensor)


def _array(tensor: int) -> np.ndarray:
    """The values of a tensor, which the array owns from now on."""
    number, shape = _type(tensor), tuple(_size(tensor, axis) for axis in range(_rank(tensor)))
    if number != types_pb2.DT_STRING:
        dtype = np.dtype(tf.as_dtype(number).as_numpy_dtype)
        if 0 in shape:
            _delete_tensor(tensor)
            return np.empty(shape, dtype)
        return np.asarray(_Memory(tensor, dtype, shape)).view(dtype)
    array = np.empty(shape, object)
    flat, at = array.reshape(-1), _data(tensor)
    for row in range(array.size):
        string = at + row * _STRING_BYTES
        flat[row] = ctypes.string_at(_string_data(string), _string_size(string))
    _delete_tensor(tensor)
    return array


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _head(data: memoryview) -> tuple[meta_graph_pb2.MetaGraphDef, bool]:
    """The signatures of a serialised MetaGraphDef, and whether there are variables to restore.

    The whole, with the graph and its functions, takes Python's lock for a tenth of a second.
    """
    kept, restores, at = bytearray(), False, 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        length, at = _varint(data, at)  # every field of it is a message
        at += length
        restores = restores or tag >> 3 == _SAVER_FIELD
        if tag >> 3 == _SIGNATURE_FIELD:
            kept += data[start:at]
    return meta_graph_pb2.MetaGraphDef.FromString(bytes(kept)), restores


class Endpoints:
    """Tensors of the graph, ready to be fed or fetched."""

    def __init__(self, outputs: Sequence[_Output]):
        self.count = len(outputs)
        self.array = (_Output * len(outputs))(*outputs)


class Session:
    """A SavedModel in memory. Many threads may run it at once; none may when it is closed.

    Args:
      path: its folder.
      config: thread pools and the like.

    Raises:
      tf.errors.OpError: it cannot be loaded.

    Attributes:
      signatures: its SignatureDefs by name, as they stand in the file.
    """

    def __init__(self, path: str, config: config_pb2.ConfigProto):
        self._session = None
        self._graph = _new_graph()
        options, head = _new_options(), _new_buffer()
        tags = (ctypes.c_char_p * 1)(tf.saved_model.SERVING.encode())
        serialized = config.SerializeToString()
        try:
            with _Status() as status:
                _configure(options, serialized, len(serialized), status)
            with _Status() as status:
                self._session = _load(options, None, os.fsencode(path), tags, 1, self._graph, head, status)
            found = (ctypes.c_ubyte * head.contents.length).from_address(head.contents.data)
            definition, restores = _head(memoryview(found).cast("B"))
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(definition.signature_def)
            index = os.path.join(path, "variables", "variables.index")
            if restores and not tf.io.gfile.exists(index):  # TensorFlow only warns of it, and fails each request
                raise tf.errors.NotFoundError(None, None, f"{index} is missing")
        except BaseException:
            self.close()
            raise
        finally:
            _delete_options(options)
            _delete_buffer(head)

    def endpoints(self, names: Sequence[str]) -> Endpoints:
        """The tensors called `names`, such as "embed:0"; tf.errors.NotFoundError where the graph has no such."""
        found = []
        for name in names:
            operation, _, index = name.partition(":")
            at = _operation(self._graph, operation.encode())
            if not at or not (index or "0").isdecimal() or int(index or "0") >= _outputs_of(at):
                raise tf.errors.NotFoundError(None, None, f"a signature names the tensor {name!r}, which is not there")
            found.append(_Output(at, int(index or "0")))
        return Endpoints(found)

    def run(
        self,
        feeds: Endpoints,
        dtypes: Sequence[int],
        values: Sequence[Sequence[np.ndarray]],
        fetches: Endpoints,
    ) -> list[np.ndarray]:
        """Runs the graph; Python's lock is free meanwhile.

        Args:
          feeds: the tensors to feed.
          dtypes: a DataType for each of them.
          values: for each of them arrays, whose rows are fed one after the other.
          fetches: the tensors to return.

        Returns:
          An array for each tensor fetched; strings as objects.

        Raises:
          tf.errors.OpError: the graph failed.
        """
        fed = [_Fed(dtype, parts) for dtype, parts in zip(dtypes, values, strict=True)]
        found = (_Pointer * fetches.count)()
        try:
            tensors = (_Pointer * feeds.count)(*(each.tensor for each in fed))
            with _Status() as status:
                _run(
                    *(self._session, None, feeds.array, tensors, feeds.count),
                    *(fetches.array, found, fetches.count, None, 0, None, status),
                )
            return [_array(tensor) for tensor in found if tensor]
        finally:
            for each in fed:
                each.free()

    def close(self) -> None:
        """Frees it, its variables too."""
        session, self._session = self._session, None
        graph, self._graph = self._graph, None
        if session:
            with _Status() as status:
                _close(session, status)
            with _Status() as status:
                _delete(session, status)
        if graph:
            _delete_graph(graph)

"""A SavedModel in TensorFlow's C API, as TF Serving itself loads it: no request waits for Python while one loads.

TensorFlow's Python builds the graph under Python's global lock, which every request needs too, and frees it when the
collector comes by.
"""

import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.model_server import constants
from serving.model_server import tf_library

_log = logging.getLogger("longtail")

_STRING_BYTES = 24  # of a TF_TString, without what it points to
_SAVER_FIELD, _SIGNATURE_FIELD = 3, 5  # of MetaGraphDef
_CONSTANTS = "longtail_constants"  # begins the names of operations that are added to a graph
_MOST_CONSTANT_BYTES = 512 << 20  # a graph is a proto, and no proto holds 2 GiB


class _Status:
    """A status of TensorFlow's; leaving it raises what it holds."""

    def __enter__(self) -> int:
        self._status = tf_library.new_status()
        return self._status

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        code, message = tf_library.code_of(self._status), tf_library.message_of(self._status).decode(errors="replace")
        tf_library.delete_status(self._status)
        if code and error is None:
            raise tf.compat.v1.errors.exception_type_from_error_code(code)(None, None, message)


_NICE = 10
_has_pools = False  # whether TensorFlow has started the threads that all sessions share


def _gently(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of TensorFlow's gives, in a thread that leaves the processor to those that answer requests.

    Not Python's own work: it would hold Python's lock while it waits for the processor. Nor anything that starts
    threads which are to answer requests: they would be as modest.
    """
    if not _has_pools or sys.platform != "linux":  # elsewhere the whole process would be
        return function(*arguments)
    found: list[Any] = []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
        found.append(function(*arguments))

    thread = threading.Thread(target=work, name="load", daemon=True)
    thread.start()
    thread.join()
    return found[0]


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


def _fed(dtype: int, parts: Sequence[np.ndarray]) -> int:
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


def _array(tensor: int) -> np.ndarray:
    """The values of a tensor, which the array owns from now on."""
    number, rank = tf_library.type_of(tensor), tf_library.rank_of(tensor)
    shape = tuple(tf_library.size_of(tensor, axis) for axis in range(rank))
    if number != types_pb2.DT_STRING:
        dtype = np.dtype(tf.as_dtype(number).as_numpy_dtype)
        if 0 in shape:
            tf_library.delete_tensor(tensor)
            return np.empty(shape, dtype)
        return np.asarray(_Memory(tensor, dtype, shape)).view(dtype)
    array = np.empty(shape, object)
    flat, at = array.reshape(-1), tf_library.data_of(tensor)
    for row in range(array.size):
        string = at + row * _STRING_BYTES
        flat[row] = ctypes.string_at(tf_library.string_data(string), tf_library.string_size(string))
    tf_library.delete_tensor(tensor)
    return array


def _head(data: memoryview) -> tuple[meta_graph_pb2.MetaGraphDef, bool]:
    """The signatures of a serialised MetaGraphDef, and whether there are variables to restore."""
    kept, restores = bytearray(), False
    for number, _, field in constants.fields(data):
        restores = restores or number == _SAVER_FIELD
        if number == _SIGNATURE_FIELD:
            kept += field
    return meta_graph_pb2.MetaGraphDef.FromString(bytes(kept)), restores


class Endpoints:
    """Tensors of the graph, ready to be fed or fetched."""

    def __init__(self, outputs: Sequence[tf_library.Output]):
        self.count = len(outputs)
        self.array = (tf_library.Output * len(outputs))(*outputs)


class Session:
    """A SavedModel in memory. Many threads may run it at once; none may when it is closed.

    Args:
      path: its folder.
      config: thread pools and the like.
      keep_variables: whether what signatures only read stays variable; see `constants`.

    Raises:
      tf.errors.OpError: it cannot be loaded.

    Attributes:
      signatures: its SignatureDefs by name, as they stand in the file.
    """

    def __init__(self, path: str, config: config_pb2.ConfigProto, keep_variables: bool = False):
        self._session = None
        self._replaced: frozenset[str] = frozenset()  # operations in whose place another is asked
        self._graph = tf_library.new_graph()
        options, head = tf_library.new_options(), tf_library.new_buffer()
        tags = (ctypes.c_char_p * 1)(tf.saved_model.SERVING.encode())
        serialized = config.SerializeToString()
        try:
            with _Status() as status:
                tf_library.set_config(options, serialized, len(serialized), status)
            with _Status() as status:
                at = os.fsencode(path)
                load = tf_library.load_session
                self._session = _gently(load, options, None, at, tags, 1, self._graph, head, status)
            global _has_pools
            _has_pools = True
            found = (ctypes.c_ubyte * head.contents.length).from_address(head.contents.data)
            meta_graph = memoryview(found).cast("B")
            definition, restores = _head(meta_graph)
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(definition.signature_def)
            index = os.path.join(path, "variables", "variables.index")
            if restores and not tf.io.gfile.exists(index):  # TensorFlow only warns of it, and fails each request
                raise tf.errors.NotFoundError(None, None, f"{index} is missing")
            if not keep_variables:
                self._make_constants(path, meta_graph)
        except BaseException:
            self.close()
            raise
        finally:
            tf_library.delete_options(options)
            tf_library.delete_buffer(head)

    def _make_constants(self, path: str, meta_graph: memoryview) -> None:
        """Adds a copy of what signatures fetch to the graph, with constants for what they only read."""
        infos = [info for definition in self.signatures.values() for info in definition.outputs.values()]
        fetched = {info.name.partition(":")[0] for info in infos if info.name}
        plan = constants.plan(meta_graph, [name for name in fetched if self._find(name)])
        if not plan.variables:
            return
        values: list[int] = []
        try:
            values += self._read(list(plan.variables.values()))
            if sum(map(tf_library.bytes_of, values)) > _MOST_CONSTANT_BYTES:
                return
            made = {
                name: self._constant(number, value)
                for number, (name, value) in enumerate(zip(plan.variables, values, strict=True))
            }
            self._import(plan.graph, made)
            self._replaced = frozenset(node.name for node in plan.graph.node)
        except tf.errors.OpError as error:
            _log.warning("%s is served with its variables; no constants can be made of them: %s", path, error.message)
        finally:
            for value in values:
                tf_library.delete_tensor(value)

    def _find(self, name: str) -> int | None:
        found: int | None = tf_library.operation(self._graph, name.encode())
        return found

    def _read(self, names: Sequence[str]) -> list[int]:
        fetches = (tf_library.Output * len(names))(*(tf_library.Output(self._find(name), 0) for name in names))
        found = (tf_library.Pointer * len(names))()
        with _Status() as status:
            _gently(
                *(tf_library.run_session, self._session),
                *(None, None, None, 0, fetches, found, len(names), None, 0, None, status),
            )
        return list(found)

    def _constant(self, number: int, value: int) -> int:
        made = tf_library.new_operation(self._graph, b"Const", f"{_CONSTANTS}/value_{number}".encode())
        tf_library.set_attr_type(made, b"dtype", tf_library.type_of(value))
        with _Status() as status:
            tf_library.set_attr_tensor(made, b"value", value, status)
        with _Status() as status:
            operation: int = tf_library.finish_operation(made, status)
        return operation

    def _import(self, graph: graph_pb2.GraphDef, made: Mapping[str, int]) -> None:
        own, serialized = {node.name for node in graph.node}, graph.SerializeToString()
        options, buffer = tf_library.new_import(), tf_library.new_buffer_of(serialized, len(serialized))
        try:
            tf_library.set_import_prefix(options, _CONSTANTS.encode())
            for reference in {reference for node in graph.node for reference in node.input}:
                name, _, index = reference.lstrip("^").partition(":")
                if name in own:
                    continue
                source = made.get(name) or self._find(name)
                if reference.startswith("^"):
                    tf_library.map_control(options, name.encode(), source)
                else:
                    output = tf_library.Output(source, int(index or "0"))
                    tf_library.map_input(options, name.encode(), int(index or "0"), output)
            with _Status() as status:
                tf_library.import_graph(self._graph, buffer, options, status)
        finally:
            tf_library.delete_import(options)
            tf_library.delete_buffer(buffer)

    def endpoints(self, names: Sequence[str]) -> Endpoints:
        """The tensors called `names`, such as "embed:0"; tf.errors.NotFoundError where the graph has no such."""
        found = []
        for name in names:
            operation, _, index = name.partition(":")
            at = self._find(f"{_CONSTANTS}/{operation}" if operation in self._replaced else operation)
            if not at or not (index or "0").isdecimal() or int(index or "0") >= tf_library.outputs_of(at):
                raise tf.errors.NotFoundError(None, None, f"a signature names the tensor {name!r}, which is not there")
            found.append(tf_library.Output(at, int(index or "0")))
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
        fed: list[int] = []
        found = (tf_library.Pointer * fetches.count)()
        try:
            for dtype, parts in zip(dtypes, values, strict=True):
                fed.append(_fed(dtype, parts))
            tensors = (tf_library.Pointer * feeds.count)(*fed)
            with _Status() as status:
                tf_library.run_session(
                    *(self._session, None, feeds.array, tensors, feeds.count),
                    *(fetches.array, found, fetches.count, None, 0, None, status),
                )
            return [_array(tensor) for tensor in found if tensor]
        finally:
            for tensor in fed:
                tf_library.delete_tensor(tensor)

    def close(self) -> None:
        """Frees it, its variables too."""
        session, self._session = self._session, None
        graph, self._graph = self._graph, None
        if session:
            with _Status() as status:
                tf_library.close_session(session, status)
            with _Status() as status:
                tf_library.delete_session(session, status)
        if graph:
            tf_library.delete_graph(graph)

"""A SavedModel in TensorFlow's C API, as TF Serving itself loads it: requests hardly wait for Python meanwhile.

TensorFlow's Python builds the graph under Python's global lock, which every request needs too, and frees it when the
collector comes by.
"""

import contextlib
import ctypes
import logging
import os
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from longtail.serving.model_server import constants
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import tf_constants
from longtail.serving.model_server import tf_library
from longtail.serving.model_server import tf_tensors

log = logging.getLogger("longtail")

_SAVER_FIELD, _SIGNATURE_FIELD = 3, 5  # of MetaGraphDef


class _NoConstantsError(Exception):
    """Constants cannot be made of a model's variables."""


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
      replaced: names of the operations in whose place copies are asked, which are computed of constants.
    """

    def __init__(self, path: str, config: config_pb2.ConfigProto, keep_variables: bool = False):
        try:
            self._load(path, config, keep_variables)
        except _NoConstantsError as error:  # they make it quicker, and must not keep it from serving
            cause = error.__cause__
            assert isinstance(cause, Exception)
            log.warning(
                "%s is served with its variables, as no constants can be made of them: %s",
                *(path, request_errors.first_line(cause)),
                exc_info=cause,
            )
            self._load(path, config, True)

    def _load(self, path: str, config: config_pb2.ConfigProto, keep_variables: bool) -> None:
        self._session: int | None = None
        self.replaced: frozenset[str] = frozenset()
        self._graph = tf_library.new_graph()
        options, head = tf_library.new_options(), tf_library.new_buffer()
        tags = (ctypes.c_char_p * 1)(tf.saved_model.SERVING.encode())
        serialized = config.SerializeToString()
        try:
            with tf_library.Status() as status:
                tf_library.set_config(options, serialized, len(serialized), status)
            with tf_library.Status() as status:
                at = os.fsencode(path)
                load = tf_library.load_session
                self._session = tf_library.gently(load, options, None, at, tags, 1, self._graph, head, status)
            tf_library.has_pools = True
            found = (ctypes.c_ubyte * head.contents.length).from_address(head.contents.data)
            meta_graph = memoryview(found).cast("B")
            definition, restores = _head(meta_graph)
            self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(definition.signature_def)
            index = os.path.join(path, "variables", "variables.index")
            if restores and not tf.io.gfile.exists(index):  # TensorFlow only warns of it, and fails each request
                raise tf.errors.NotFoundError(None, None, f"{index} is missing")
            if not keep_variables:
                self.replaced = self._add_constants(meta_graph)
        except BaseException:
            self.close()
            raise
        finally:
            tf_library.delete_options(options)
            tf_library.delete_buffer(head)

    def _add_constants(self, meta_graph: memoryview) -> frozenset[str]:
        infos = [info for definition in self.signatures.values() for info in definition.outputs.values()]
        fetched = {info.name.partition(":")[0] for info in infos if info.name}
        assert self._session is not None
        try:
            return tf_constants.add(self._session, self._graph, meta_graph, fetched)
        except Exception as error:
            raise _NoConstantsError from error

    def endpoints(self, names: Sequence[str]) -> Endpoints:
        """The tensors called `names`, such as "embed:0"; tf.errors.NotFoundError where the graph has no such."""
        found = []
        for name in names:
            operation, _, index = name.partition(":")
            asked = tf_constants.copy_of(operation) if operation in self.replaced else operation
            at = tf_constants.find(self._graph, asked)
            if not at or not (index or "0").isdecimal() or int(index or "0") >= tf_library.outputs_of(at):
                raise tf.errors.NotFoundError(None, None, f"a signature names the tensor {name!r}, which is not there")
            found.append(tf_library.Output(at, int(index or "0")))
        return Endpoints(found)

    def prepare(self, feeds: Endpoints, dtypes: Sequence[int], fetches: Endpoints) -> None:
        """Does what comes before the first run, which takes a second, and leaves the processor to others meanwhile.

        TensorFlow looks at what it is fed after it has prepared the graph for it, and refuses a tensor of another type.
        The run itself could not be modest: it starts threads that are to answer requests.

        Args:
          feeds, dtypes, fetches: as for `run`.
        """
        other = [types_pb2.DT_INT32 if dtype != types_pb2.DT_INT32 else types_pb2.DT_FLOAT for dtype in dtypes]
        if not other:
            return
        fed = (tf_library.Pointer * feeds.count)(*(tf_tensors.feed(dtype, [np.empty(0, np.int32)]) for dtype in other))
        found = (tf_library.Pointer * fetches.count)()
        try:
            with contextlib.suppress(tf.errors.OpError), tf_library.Status() as status:  # what fails is told by a run
                tf_library.gently(
                    *(tf_library.run_session, self._session, None, feeds.array, fed, feeds.count),
                    *(fetches.array, found, fetches.count, None, 0, None, status),
                )
        finally:
            for tensor in fed:
                tf_library.delete_tensor(tensor)

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
                fed.append(tf_tensors.feed(dtype, parts))
            tensors = (tf_library.Pointer * feeds.count)(*fed)
            with tf_library.Status() as status:
                tf_library.run_session(
                    *(self._session, None, feeds.array, tensors, feeds.count),
                    *(fetches.array, found, fetches.count, None, 0, None, status),
                )
            return [tf_tensors.array(tensor) for tensor in found if tensor]
        finally:
            for tensor in fed:
                tf_library.delete_tensor(tensor)

    def close(self) -> None:
        """Frees it, its variables too."""
        session, self._session = self._session, None
        graph, self._graph = self._graph, None
        if session:
            with tf_library.Status() as status:
                tf_library.close_session(session, status)
            with tf_library.Status() as status:
                tf_library.delete_session(session, status)
        if graph:
            tf_library.delete_graph(graph)

"""Adds constants, and what is computed of them, to a SavedModel's graph in TensorFlow's C API; see `constants`."""

import logging
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence

from tensorflow.core.framework import graph_pb2

from longtail.serving.model_server import constants
from longtail.serving.model_server import tf_library

log = logging.getLogger("longtail")

# Begin the names of operations that are added to a graph: constants, and what stands for others of the same name.
_VALUES, _COPIES = "longtail_values", "longtail_copies"
_MOST_BYTES = 32 << 20  # TensorFlow keeps several copies of a constant, and more for a moment


def find(graph: int, name: str) -> int | None:
    """The operation of that name, None where there is none."""
    found: int | None = tf_library.operation(graph, name.encode())
    return found


def copy_of(name: str) -> str:
    """The name of the operation that stands for another."""
    return f"{_COPIES}/{name}"


def add(session: int, graph: int, meta_graph: memoryview, fetched: Collection[str]) -> frozenset[str]:
    """Adds to a graph what is to be fetched in place of what depends on variables that are only read.

    Args:
      session: has the variables' values.
      graph: its graph.
      meta_graph: of the SavedModel, serialised.
      fetched: names of the operations that signatures fetch.

    Returns:
      The names of the operations that have a copy; none where the constants would take too much memory.

    Raises:
      tf.errors.OpError: TensorFlow refuses it; neither graph nor session is to be used then.
    """
    plan = constants.plan(meta_graph, [name for name in fetched if find(graph, name)])
    if not plan.variables:
        return frozenset()
    values = _read(session, graph, list(plan.variables.values()))
    try:
        size = sum(map(tf_library.bytes_of, values))
        if size > _MOST_BYTES:
            log.info("variables of %d MiB stay variables: constants take several times as much", size >> 20)
            return frozenset()
        made = {
            name: _constant(graph, number, value)
            for number, (name, value) in enumerate(zip(plan.variables, values, strict=True))
        }
    finally:
        for value in values:
            tf_library.delete_tensor(value)
    _import(graph, plan.graph, made)
    with tf_library.Status() as status:
        tf_library.gently(tf_library.extend_session, session, status)
    return frozenset(node.name for node in plan.graph.node)


def _read(session: int, graph: int, names: Sequence[str]) -> list[int]:
    fetches = (tf_library.Output * len(names))(*(tf_library.Output(find(graph, name), 0) for name in names))
    found = (tf_library.Pointer * len(names))()
    with tf_library.Status() as status:
        tf_library.gently(
            *(tf_library.run_session, session, None, None, None, 0),
            *(fetches, found, len(names), None, 0, None, status),
        )
    return list(found)


def _constant(graph: int, number: int, value: int) -> int:
    made = tf_library.new_operation(graph, b"Const", f"{_VALUES}/{number}".encode())
    tf_library.set_attr_type(made, b"dtype", tf_library.type_of(value))
    with tf_library.Status() as status:
        tf_library.set_attr_tensor(made, b"value", value, status)
    with tf_library.Status() as status:
        operation: int = tf_library.finish_operation(made, status)
    return operation


def _import(graph: int, added: graph_pb2.GraphDef, made: Mapping[str, int]) -> None:
    own, serialized = {node.name for node in added.node}, added.SerializeToString()
    options, buffer = tf_library.new_import(), tf_library.new_buffer_of(serialized, len(serialized))
    try:
        tf_library.set_import_prefix(options, _COPIES.encode())
        for reference in {reference for node in added.node for reference in node.input}:
            name, _, index = reference.lstrip("^").partition(":")
            if name in own:
                continue
            source = made.get(name) or find(graph, name)
            if reference.startswith("^"):
                tf_library.map_control(options, name.encode(), source)
            else:
                number = int(index or "0")
                tf_library.map_input(options, name.encode(), number, tf_library.Output(source, number))
        with tf_library.Status() as status:
            tf_library.import_graph(graph, buffer, options, status)
    finally:
        tf_library.delete_import(options)
        tf_library.delete_buffer(buffer)

"""Makes constants of a SavedModel's variables, so that whatever serves it can fold them into the ops around them."""

import logging
import os
from collections.abc import Iterable
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.core.protobuf import saved_model_pb2


def _called(nodes: Iterable[tf.compat.v1.NodeDef]) -> Iterator[str]:
    """Names that may be functions: the ops of the nodes, and what their attributes name."""
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            yield value.func.name
            yield from (function.name for function in value.list.func)


def _drop_unused_functions(graph: tf.compat.v1.GraphDef) -> None:
    """Leaves out what saved variables and computed gradients; a server would read it for nothing."""
    functions = {function.signature.name: function for function in graph.library.function}
    used: dict[str, None] = {}
    new = list(_called(graph.node))
    while new:
        name = new.pop()
        if name in functions and name not in used:
            used[name] = None
            new += _called(functions[name].node_def)
    kept = [functions[name] for name in used]
    graph.library.Clear()
    graph.library.function.extend(kept)


def _frozen(path: str, meta_graph: meta_graph_pb2.MetaGraphDef) -> tf.compat.v1.GraphDef:
    """The graph of all signatures, and of what initialises the model, with constants in place of variables."""
    infos = [info for signature in meta_graph.signature_def.values() for info in signature.outputs.values()]
    names = sorted({info.name.partition(":")[0] for info in infos})
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that graphs of TensorFlow 1 are old; SavedModels are made of them
    try:
        with tf.compat.v1.Session(graph=tf.Graph()) as session:
            tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], path)
            graph = tf.compat.v1.graph_util.convert_variables_to_constants(session, meta_graph.graph_def, names)
    finally:
        logger.setLevel(level)
    _drop_unused_functions(graph)
    return graph


def freeze(path: str) -> None:
    """Makes constants of the variables of the SavedModel at `path`, in place.

    All signatures read the same constants, so the weights are there once. What is left has no variables and no
    Python objects: `tf.saved_model.load` gives its signatures alone.

    Args:
      path: folder of a SavedModel with one graph, none of whose signatures assigns a variable.

    Raises:
      ValueError: the constants do not fit into the 2 GiB that a graph may have.
    """
    file = os.path.join(path, tf.saved_model.SAVED_MODEL_FILENAME_PB)
    with tf.io.gfile.GFile(file, "rb") as opened:
        saved = saved_model_pb2.SavedModel.FromString(opened.read())
    [meta_graph] = saved.meta_graphs
    meta_graph.graph_def.CopyFrom(_frozen(path, meta_graph))
    for field in ("saver_def", "object_graph_def", "collection_def"):
        meta_graph.ClearField(field)
    with tf.io.gfile.GFile(file, "wb") as opened:
        opened.write(saved.SerializeToString())
    tf.io.gfile.rmtree(os.path.join(path, tf.saved_model.VARIABLES_DIRECTORY))
    fingerprint = os.path.join(path, "fingerprint.pb")  # of the graph as it was
    if tf.io.gfile.exists(fingerprint):
        tf.io.gfile.remove(fingerprint)

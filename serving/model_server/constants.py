"""Makes constants of the variables that a SavedModel's signatures only read.

TensorFlow prepares a graph of constants better: batch normalisation is folded into the convolution before it, and
kernels are laid out for the processor once and not at every run. What a signature may assign stays a variable.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from tensorflow.core.framework import function_pb2
from tensorflow.core.framework import graph_pb2
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework import versions_pb2

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_FRAMES = ("Enter", "RefEnter")  # begin a loop that is made of nodes, which has to stay in one piece
_VARIABLE, _READ = "VarHandleOp", "ReadVariableOp"
_NOT_CONSTANT = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
_SUFFIX = "_of_constants_"
# Fields of MetaGraphDef, GraphDef, FunctionDefLibrary, FunctionDef and OpDef.
_GRAPH, _NODE, _LIBRARY, _VERSIONS, _FUNCTION, _SIGNATURE, _NAME = 2, 1, 2, 4, 1, 1, 1

_Use = tuple[node_def_pb2.NodeDef, int]  # a node, and which of its inputs


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at a place of a serialised proto, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The fields of a serialised proto that have a length: number, content, and all of the field.

    To parse a whole SavedModel takes Python's lock for a tenth of a second, in which no request is answered.
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at)
        if tag & 7 == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length], data[start : at + length]
            at += length
        elif tag & 7 == 0:
            _, at = _varint(data, at)
        else:
            at += 4 if tag & 7 == 5 else 8


def _first(data: memoryview, number: int) -> memoryview:
    return next((content for found, content, _ in fields(data) if found == number), memoryview(b""))


class _Functions:
    """The functions of a graph, parsed when they are asked for."""

    def __init__(self, libraries: Iterable[memoryview]):
        functions = [content for library in libraries for number, content, _ in fields(library) if number == _FUNCTION]
        self._serialized = {bytes(_first(_first(each, _SIGNATURE), _NAME)).decode(): each for each in functions}
        self._parsed: dict[str, function_pb2.FunctionDef] = {}

    def has(self, op: str) -> bool:
        """Whether one of them may have a node of this kind."""
        return any(op.encode() in bytes(each) for each in self._serialized.values())

    def __getitem__(self, name: str) -> function_pb2.FunctionDef:
        if name not in self._parsed:
            self._parsed[name] = function_pb2.FunctionDef.FromString(bytes(self._serialized[name]))
        return self._parsed[name]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to add to a graph.

    Attributes:
      variables: names of the nodes whose value is to be constant, and for each a node that reads it.
      graph: nodes that stand for those of the same name, with constants in the variables' place. What they take from
        other nodes is to be taken from the graph.
    """

    variables: Mapping[str, str]
    graph: graph_pb2.GraphDef


def _source(reference: str) -> str:
    """The node, or the function's argument, that an input names."""
    return reference.lstrip("^").partition(":")[0]


class _Freezer:
    def __init__(self, functions: _Functions):
        self._functions = functions
        self._uses: dict[str, dict[str, list[_Use]]] = {}
        self._only_read: dict[tuple[str, int], bool] = {}
        self._made: dict[tuple[str, tuple[tuple[int, int], ...]], str] = {}
        self.library = function_pb2.FunctionDefLibrary()

    def is_read_only(self, uses: Iterable[_Use]) -> bool:
        """Whether a variable is read by all that use it."""
        return all(
            node.op == _READ or (node.op in _CALLS and self._argument_is_read(node.attr["f"].func.name, index))
            for node, index in uses
        )

    def _argument_is_read(self, name: str, index: int) -> bool:
        key = name, index
        if key not in self._only_read:
            self._only_read[key] = False  # of a function that calls itself
            function = self._functions[name]
            arguments = function.signature.input_arg
            if any(each.number_attr or each.type_list_attr for each in arguments):  # one of them is several inputs
                return False
            argument = arguments[index].name
            is_returned = any(_source(reference) == argument for reference in function.ret.values())
            if name not in self._uses:
                self._uses[name] = _uses(function.node_def)
            self._only_read[key] = not is_returned and self.is_read_only(self._uses[name].get(argument, ()))
        return self._only_read[key]

    def rewrite(self, node: node_def_pb2.NodeDef, types: Mapping[str, int]) -> bool:
        """Has a node take values in place of variables; whether it was one that reads, and now hands on what it takes.

        Args:
          node: is changed.
          types: what is a value now -> its type.
        """
        if node.op == _READ:
            dtype = types.get(_source(node.input[0]))
            if dtype is None:
                return False
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
            return True
        indices = tuple(
            index for index, each in enumerate(node.input) if not each.startswith("^") and _source(each) in types
        )
        if node.op in _CALLS and indices:
            given = {index: types[_source(node.input[index])] for index in indices}
            for index, dtype in given.items():
                node.attr["Tin"].list.type[index] = dtype
            node.attr["f"].func.name = self._of_values(node.attr["f"].func.name, given)
            node.attr.pop("_read_only_resource_inputs", None)
        return False

    def _of_values(self, name: str, given: Mapping[int, int]) -> str:
        """The function that takes values where `name` takes variables."""
        key = name, tuple(given.items())
        if key not in self._made:
            made = function_pb2.FunctionDef()
            made.CopyFrom(self._functions[name])
            self._made[key] = made.signature.name = f"{name}{_SUFFIX}{len(self._made)}"
            made.attr.pop("_input_shapes", None)
            types = {}
            for index, dtype in given.items():
                argument = made.signature.input_arg[index]
                argument.type = types[argument.name] = dtype
                del argument.handle_data[:]
                made.arg_attr.pop(index, None)
                made.resource_arg_unique_id.pop(index, None)
            read = {node.name for node in made.node_def if self.rewrite(node, types)}
            # Outputs are named in functions, and Identity's is named otherwise.
            for node in made.node_def:
                for index, reference in enumerate(node.input):
                    node.input[index] = _renamed(reference, read)
            for output, reference in made.ret.items():
                made.ret[output] = _renamed(reference, read)
            self.library.function.append(made)
        return self._made[key]


def _renamed(reference: str, read: set[str]) -> str:
    node, colon, _ = reference.partition(":")
    return f"{node}:output:0" if colon and node in read else reference


def _uses(nodes: Iterable[node_def_pb2.NodeDef]) -> dict[str, list[_Use]]:
    """What uses each node, or argument."""
    found: dict[str, list[_Use]] = {}
    for node in nodes:
        for index, reference in enumerate(node.input):
            if not reference.startswith("^"):
                found.setdefault(_source(reference), []).append((node, index))
    return found


def _resource(node: node_def_pb2.NodeDef) -> tuple[bytes, bytes]:
    """What a variable's node stands for: two nodes may stand for the same variable."""
    return node.attr["container"].s, node.attr["shared_name"].s


def _reach(starts: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    found, waiting = set(), list(starts)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += following(name)
    return found


def plan(meta_graph: memoryview, fetched: Sequence[str]) -> Plan:
    """Which variables can be constants, and what then stands for the nodes that depend on them.

    Args:
      meta_graph: a MetaGraphDef, serialised.
      fetched: names of the nodes that signatures fetch.
    """
    graph = _first(meta_graph, _GRAPH)
    serialized = [(number, content) for number, content, _ in fields(graph)]
    nodes = {
        node.name: node
        for number, content in serialized
        if number == _NODE
        for node in [node_def_pb2.NodeDef.FromString(bytes(content))]
    }
    functions = _Functions(content for number, content in serialized if number == _LIBRARY)
    freezer = _Freezer(functions)
    needed = _reach(fetched, lambda name: map(_source, nodes[name].input))
    uses = _uses(nodes[name] for name in needed)
    # Of those that read it, one that waits for nothing: not for a request to be checked, either.
    reads = {_source(node.input[0]): node.name for node in nodes.values() if node.op == _READ and len(node.input) == 1}
    variables = [nodes[name] for name in needed if nodes[name].op == _VARIABLE]
    assigned = {_resource(node) for node in variables if not freezer.is_read_only(uses.get(node.name, ()))}
    types = {
        node.name: node.attr["dtype"].type
        for node in variables
        if node.name in reads and node.attr["dtype"].type not in _NOT_CONSTANT and _resource(node) not in assigned
    }
    if functions.has(_VARIABLE) or any(nodes[name].op in _FRAMES for name in needed):
        types = {}
    # What waits for such a node is copied too: else the node itself would be run beside its copy.
    followers: dict[str, set[str]] = {}
    for name in needed:
        for reference in nodes[name].input:
            followers.setdefault(_source(reference), set()).add(name)
    changed = _reach(types, lambda name: followers.get(name, ())) - types.keys()
    made = graph_pb2.GraphDef(versions=versions_pb2.VersionDef.FromString(bytes(_first(graph, _VERSIONS))))
    for name in sorted(changed):
        node = made.node.add()
        node.CopyFrom(nodes[name])
        node.attr.pop("_class", None)  # it may name a node that is not among these
        freezer.rewrite(node, types)
    made.library.CopyFrom(freezer.library)
    return Plan({name: reads[name] for name in sorted(types)}, made)

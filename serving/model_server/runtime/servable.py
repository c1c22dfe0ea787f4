"""One loaded version of a model: its signatures, running them, and a lease that keeps it from being freed."""

import dataclasses
import threading
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import tensors

DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY

_INTERNAL = "__saved_model_"  # begins the names of signatures that initialise the model, not to be called
_NO_ARRAY = "Could not allocate ndarray"  # what TensorFlow says of a tensor of more dimensions than NumPy has
_NOT_SENT = (types_pb2.DT_INVALID, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)

Inputs = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SessionOptions:
    """The models' sessions. Of threads, 0 leaves the number to TensorFlow, which takes all cores."""

    intra_op_threads: int = 1  # within one op; the process's first session says how many
    inter_op_threads: int = -1  # ops at once; below 0 the ops run in the thread that runs the batch


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _can_be_asked(definition: meta_graph_pb2.SignatureDef) -> bool:
    """Whether all a signature takes and gives can be sent: not a sparse tensor, a resource or the like."""
    infos = [*definition.inputs.values(), *definition.outputs.values()]
    return all(info.WhichOneof("encoding") == "name" and info.dtype not in _NOT_SENT for info in infos)


def _has_rows(spec: tensors.Spec) -> bool:
    return spec.dims is not None and spec.dims[:1] == (None,)


def _dtype_in(graph: tf.Graph, name: str) -> tf.DType:
    try:
        return graph.get_tensor_by_name(name).dtype
    except (KeyError, ValueError) as error:
        line = f"a signature names the tensor {name!r}, which is not there"
        raise tf.errors.NotFoundError(None, None, line) from error


class Signature:
    """A function of the model that clients may call.

    Args:
      session: the model.
      definition: the signature as the SavedModel states it.

    Raises:
      tf.errors.NotFoundError: it names a tensor that is not there.

    Attributes:
      inputs: alias -> dtype and shape of what it takes.
      outputs: alias -> dtype and shape of what it gives.
      defaults: alias -> what an input is that is not sent.
      has_rows: whether requests can be put together row by row: every input's and output's first size is open.
    """

    def __init__(self, session: tf.compat.v1.Session, definition: meta_graph_pb2.SignatureDef):
        self.inputs = {alias: tensors.Spec(info) for alias, info in definition.inputs.items()}
        self.outputs = {alias: tensors.Spec(info) for alias, info in sorted(definition.outputs.items())}
        self.defaults = {
            alias: tensors.from_proto(alias, proto, self.inputs[alias]) for alias, proto in definition.defaults.items()
        }
        specs = (*self.inputs.values(), *self.outputs.values())
        graph_dtypes = {spec.name: _dtype_in(session.graph, spec.name) for spec in specs}
        # TensorFlow would take the bytes of one type for another.
        self._lies = [alias for alias, spec in self.inputs.items() if graph_dtypes[spec.name] != spec.dtype]
        # All outputs, whatever is asked for: TensorFlow takes seconds to prepare the graph for other ones.
        fetches = [spec.name for spec in self.outputs.values()]
        self._call = session.make_callable(fetches, [spec.name for spec in self.inputs.values()])
        self.has_rows = (
            bool(self.inputs)
            and all(map(_has_rows, self.inputs.values()))
            and all(spec.dims is None or _has_rows(spec) for spec in self.outputs.values())
        )

    def check_aliases(self, given: Collection[str]) -> None:
        """Raises INVALID_ARGUMENT where an input is missing or unknown, in the words of TF Serving."""
        sent, required = set(given), self.inputs.keys()
        missing, extra = required - sent - set(self.defaults), sent - required
        if not missing and not extra:
            return
        if len(sent) != len(required) or extra and not missing:
            raise request_errors.invalid(
                f"input size does not match signature: {len(sent)}!={len(required)} len({_braced(sent)}) != "
                f"len({_braced(required)}). Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
            )
        alias = min(missing)
        raise request_errors.invalid(
            f"Signature input alias: {alias}(feed name: {self.inputs[alias].name}) not found in request and no default "
            f"value provided. Inputs expected to be in the request {_braced(sent)}, or default input alias set: "
            f"{','.join(sorted(self.defaults))}"
        )

    def check(self, inputs: Inputs) -> None:
        """Raises INVALID_ARGUMENT where inputs are missing, unknown, or of another type or shape than it takes."""
        self.check_aliases(inputs.keys())
        if self._lies:
            raise request_errors.invalid(f"input {self._lies[0]}: the signature states another type than the graph")
        for alias, array in inputs.items():
            spec = self.inputs[alias]
            if array.dtype != spec.numpy:
                spec.check_dtype(alias, tf.as_dtype(array.dtype).as_datatype_enum)
            spec.check_shape(alias, array.shape)

    def wanted(self, output_filter: Iterable[str]) -> tuple[str, ...]:
        """The aliases to return, all where `output_filter` is empty.

        Raises:
          RequestError: INVALID_ARGUMENT, one is unknown, or there twice.
        """
        wanted = tuple(output_filter)
        for alias in wanted:
            if alias not in self.outputs:
                raise request_errors.invalid(
                    f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                    f"{_braced(self.outputs)}."
                )
            if wanted.count(alias) > 1:
                raise request_errors.invalid(f"duplicate output tensor alias: {alias}")
        return wanted or tuple(self.outputs)

    def run_rows(self, parts: Sequence[Inputs]) -> dict[str, np.ndarray]:
        """Runs it once on the rows of several requests, which are checked, one after the other.

        Returns:
          alias -> array, of every output; strings as objects.

        Raises:
          RequestError: the model failed.
        """
        columns = [[part[alias] for part in parts] for alias in self.inputs]
        fed = [column[0] if len(column) == 1 else np.concatenate(column) for column in columns]
        try:
            found = self._call(*fed)
        except tf.errors.OpError as error:
            if _NO_ARRAY in str(error):
                line = f"an output cannot be sent: it has more than {tensors.MAX_RANK} dimensions"
                raise request_errors.invalid(line) from error
            raise request_errors.from_tensorflow(error) from error
        arrays = [np.asarray(value, object if isinstance(value, bytes) else None) for value in found]
        return dict(zip(self.outputs, arrays, strict=True))

    def run(self, inputs: Inputs, output_filter: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Runs it in this thread, for itself. Requests go through the scheduler of `batching` instead.

        Raises:
          RequestError: the inputs are not what the signature takes, an output is unknown, or the model failed.
        """
        self.check(inputs)
        wanted = self.wanted(output_filter)
        outputs = self.run_rows([inputs])
        return {alias: outputs[alias] for alias in wanted}


def _load(session: tf.compat.v1.Session, path: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    if not tf.saved_model.contains_saved_model(path):
        raise tf.errors.NotFoundError(None, None, f"Could not find SavedModel .pb or .pbtxt at {path}")
    tf.get_logger().setLevel("ERROR")  # it says that this way of loading is old; TF Serving loads so, too
    with session.graph.as_default():
        try:
            loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], path)
        except (RuntimeError, ValueError) as error:  # no such tag, no variables
            raise tf.errors.NotFoundError(None, None, request_errors.first_line(error)) from error
    found = {}
    for name, definition in loaded.signature_def.items():
        found[name] = meta_graph_pb2.SignatureDef()
        found[name].CopyFrom(definition)  # without the graph, which would stay with it
    return found


class Servable:
    """A model version in memory. Many threads may run it at once; it is freed when nobody holds it.

    Args:
      name: the model's name, as clients ask for it.
      version: its number.
      path: folder of the SavedModel.
      options: of its session.

    Raises:
      tf.errors.OpError, OSError: the SavedModel cannot be read, or a signature names what is not there.

    Attributes:
      signatures: by name, those that can be called.
      definitions: by name, all that the SavedModel states.
    """

    def __init__(self, name: str, version: int, path: str, options: SessionOptions = SessionOptions()):
        self.name = name
        self.version = version
        self._leases = 0
        self._retired = False
        self._changed = threading.Condition()
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=options.intra_op_threads, inter_op_parallelism_threads=options.inter_op_threads
        )
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            self.definitions = _load(self._session, path)
            self.signatures = {
                key: Signature(self._session, definition)
                for key, definition in self.definitions.items()
                if not key.startswith(_INTERNAL) and _can_be_asked(definition)
            }
            if not self.signatures:
                raise tf.errors.NotFoundError(None, None, f"the SavedModel at {path} has no signature to serve")
        except BaseException:
            self._session.close()
            raise

    def signature(self, name: str) -> Signature:
        """The signature called `name`, the default one where that is empty; FAILED_PRECONDITION where it has none."""
        key = name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            line = f'Serving signature key "{key}" not found.'
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, line)
        return self.signatures[key]

    def acquire(self) -> bool:
        """Keeps it loaded until `release`; False where it is retired."""
        with self._changed:
            if self._retired:
                return False
            self._leases += 1
            return True

    def hold(self) -> None:
        """As `acquire`, for those who hold it already: also where it is retired."""
        with self._changed:
            self._leases += 1

    def release(self) -> None:
        """Ends what `acquire` or `hold` began."""
        with self._changed:
            self._leases -= 1
            if not self._leases:
                self._changed.notify_all()

    def retire(self) -> None:
        """Nobody acquires it from now on."""
        with self._changed:
            self._retired = True

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Blocks until nobody holds it; False where that takes longer than `timeout_s` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._leases, timeout_s)

    def close(self) -> None:
        """Frees the model; nobody may hold it. What Python keeps of it goes with the next garbage collection."""
        self.retire()
        self._session.close()
        self.signatures = {}

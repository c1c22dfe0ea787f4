"""One loaded version of a model: its signatures, and running them."""

from collections.abc import Iterable
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving.model_server import request_errors

DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


def _braced(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


class Signature:
    """A function of the model that clients may call.

    Attributes:
      inputs: alias -> dtype and shape of what it takes.
      outputs: alias -> dtype and shape of what it gives.
    """

    def __init__(self, function: tf.types.experimental.ConcreteFunction):
        self._function = function
        self.inputs: dict[str, tf.TensorSpec] = function.structured_input_signature[1]
        self.outputs: dict[str, tf.TensorSpec] = function.structured_outputs

    def check_aliases(self, given: Iterable[str]) -> None:
        """Raises INVALID_ARGUMENT where an input is missing or unknown."""
        sent, required = set(given), set(self.inputs)
        if sent == required:
            return
        raise request_errors.invalid(
            f"input size does not match signature: {len(sent)}!={len(required)} len({_braced(sent)}) != "
            f"len({_braced(required)}). Sent extra: {_braced(sent - required)}. "
            f"Missing but required: {_braced(required - sent)}."
        )

    def _wanted(self, output_filter: Iterable[str]) -> list[str]:
        wanted = list(output_filter)
        for alias in wanted:
            if alias not in self.outputs:
                raise request_errors.invalid(
                    f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                    f"{_braced(self.outputs)}."
                )
            if wanted.count(alias) > 1:
                raise request_errors.invalid(f"duplicate output tensor alias: {alias}")
        return wanted or sorted(self.outputs)

    def run(self, inputs: Mapping[str, tf.Tensor], output_filter: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Runs the function.

        Args:
          inputs: alias -> tensor of the dtype and shape in `self.inputs`; all of them.
          output_filter: aliases to return; all where it is empty.

        Returns:
          alias -> array.

        Raises:
          RequestError: an input is missing or unknown, an output unknown, or the model failed.
        """
        self.check_aliases(inputs)
        wanted = self._wanted(output_filter)
        try:
            outputs = self._function(**inputs)
            return {alias: outputs[alias].numpy() for alias in wanted}
        except tf.errors.OpError as error:
            raise request_errors.from_tensorflow(error) from error

    def definition(self) -> meta_graph_pb2.SignatureDef:
        """What the signature takes and gives, as TF Serving's metadata tells it."""
        definition = meta_graph_pb2.SignatureDef(
            method_name=tf.saved_model.PREDICT_METHOD_NAME,
        )
        for infos, specs in ((definition.inputs, self.inputs), (definition.outputs, self.outputs)):
            for alias, spec in specs.items():
                infos[alias].name = spec.name or alias
                infos[alias].dtype = spec.dtype.as_datatype_enum
                infos[alias].tensor_shape.CopyFrom(spec.shape.as_proto())
        return definition


class Servable:
    """A model version in memory. Immutable; many threads may run it at once.

    Args:
      name: the model's name, as clients ask for it.
      version: its number.
      path: folder of the SavedModel.

    Raises:
      OSError, tf.errors.OpError: the SavedModel cannot be read.
    """

    def __init__(self, name: str, version: int, path: str):
        self.name = name
        self.version = version
        # The functions hold their variables only as long as the loaded model lives.
        self._loaded = tf.saved_model.load(path)
        self.signatures = {key: Signature(value) for key, value in self._loaded.signatures.items()}

    def signature(self, name: str) -> Signature:
        """The signature called `name`, the default one where that is empty.

        Raises:
          RequestError: FAILED_PRECONDITION, there is none of that name.
        """
        key = name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise request_errors.RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.'
            )
        return self.signatures[key]

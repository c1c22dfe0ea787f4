"""Reads a PredictRequest for a servable and writes the answer. gRPC and the warm-up both come through here."""

import functools
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models.export import signatures
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import servable as servable_lib
from longtail.serving.model_server import tensors


def inputs_of(signature: servable_lib.Signature, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    """The arrays a request holds.

    Raises:
      RequestError: INVALID_ARGUMENT, they do not fit the signature.
    """
    protos = request.inputs
    aliases = list(protos)  # its keys() and items() are Python, and slow
    signature.check_aliases(aliases)
    sent = {alias: tensors.from_proto(alias, protos[alias], signature.inputs[alias]) for alias in aliases}
    return {**signature.defaults, **sent} if signature.defaults else sent


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _field(number: int, content: bytes, more: int = 0) -> bytes:
    """A field of bytes, of which `more` follow."""
    return _varint(number << 3 | 2) + _varint(len(content) + more) + content


@functools.lru_cache(4096)
def _head(alias: str, dtype: int, shape: tuple[int, ...], size: int) -> bytes:
    """An output of a PredictResponse up to its `size` bytes of numbers, which come last."""
    dims = b"".join(_field(2, b"\x08" + _varint(length)) for length in shape)
    tensor = b"\x08" + _varint(dtype) + _field(2, dims) + _varint(4 << 3 | 2) + _varint(size)
    return _field(1, _field(1, alias.encode()) + _field(2, tensor, size), size)


@functools.lru_cache(256)
def _spec(name: str, version: int, signature_name: str) -> bytes:
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name or servable_lib.DEFAULT_SIGNATURE)
    spec.version.value = version
    return _field(2, spec.SerializeToString())


def response_of(servable: servable_lib.Servable, signature_name: str, outputs: Mapping[str, np.ndarray]) -> bytes:
    """The serialised PredictResponse that holds `outputs`.

    Written by hand, as it takes a twentieth of what the proto's classes do, for each request.
    """
    parts = [_spec(servable.name, servable.version, signature_name)]
    specs = servable.signature(signature_name).outputs
    for alias, array in outputs.items():
        if array.dtype == np.object_:
            parts.append(_field(1, _field(1, alias.encode()) + _field(2, tensors.to_proto(array).SerializeToString())))
        else:
            parts.append(_head(alias, specs[alias].number, array.shape, array.nbytes))
            parts.append(array.tobytes())
    return b"".join(parts)


def warm_up(servable: servable_lib.Servable, path: str) -> int:
    """Runs the requests that came with the model, so that no client pays for the first.

    Args:
      servable: the model.
      path: its version folder.

    Returns:
      How many requests were run.

    Raises:
      RequestError, tf.errors.OpError: one of them fails: the model would fail clients too.
    """
    file = os.path.join(path, signatures.WARMUP_FILE)
    if not tf.io.gfile.exists(file):
        return 0
    count = 0
    for record in tf.compat.v1.io.tf_record_iterator(file):
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except message.DecodeError as error:
            raise request_errors.invalid(f"warm-up request {count + 1} of {file} is no PredictionLog") from error
        if log.HasField("predict_log"):
            request = log.predict_log.request
            signature = servable.signature(request.model_spec.signature_name)
            signature.prepare()
            signature.run(inputs_of(signature, request), request.output_filter)
            count += 1
    return count

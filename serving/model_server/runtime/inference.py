"""Reads a PredictRequest for a servable and writes the answer. gRPC and the warm-up both come through here."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models.export import signatures
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from longtail.serving.model_server.runtime import tensors


def inputs_of(signature: servable_lib.Signature, request: predict_pb2.PredictRequest) -> dict[str, np.ndarray]:
    """The arrays a request holds; INVALID_ARGUMENT where they do not fit the signature."""
    protos = request.inputs
    aliases = list(protos)  # its keys() and items() are Python, and slow
    signature.check_aliases(aliases)
    sent = {alias: tensors.from_proto(alias, protos[alias], signature.inputs[alias]) for alias in aliases}
    return {**signature.defaults, **sent} if signature.defaults else sent


def response_of(
    servable: servable_lib.Servable, signature_name: str, outputs: Mapping[str, np.ndarray], as_content: bool = False
) -> predict_pb2.PredictResponse:
    """The response that holds `outputs`; as raw bytes where `as_content` is set."""
    response = predict_pb2.PredictResponse()
    spec = response.model_spec
    spec.name, spec.signature_name = servable.name, signature_name or servable_lib.DEFAULT_SIGNATURE
    spec.version.value = servable.version
    for alias, array in outputs.items():
        tensors.fill_proto(response.outputs[alias], array, as_content)
    return response


def warm_up(servable: servable_lib.Servable, path: str) -> int:
    """Runs the requests that came with the model at `path`, so that no client pays for the first; returns how many.

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
            signature.run(inputs_of(signature, request), request.output_filter)
            count += 1
    return count

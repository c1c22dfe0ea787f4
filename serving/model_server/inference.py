"""Answers a PredictRequest from a servable. gRPC and the warm-up both come through here."""

import os

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

from models import signatures
from serving.model_server import servable as servable_lib
from serving.model_server import tensors


def predict(servable: servable_lib.Servable, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Runs the signature the request names on its inputs.

    Raises:
      RequestError: the request does not fit the model, or the model failed.
    """
    name = request.model_spec.signature_name or servable_lib.DEFAULT_SIGNATURE
    signature = servable.signature(name)
    signature.check_aliases(request.inputs)
    inputs = {
        alias: tensors.from_proto(alias, proto, signature.inputs[alias]) for alias, proto in request.inputs.items()
    }
    response = predict_pb2.PredictResponse()
    for alias, array in signature.run(inputs, request.output_filter).items():
        response.outputs[alias].CopyFrom(tensors.to_proto(array))
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = name
    return response


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
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("predict_log"):
            predict(servable, log.predict_log.request)
            count += 1
    return count

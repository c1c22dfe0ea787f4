"""TF Serving's gRPC services over a ModelSource: Predict, GetModelMetadata, GetModelStatus, health."""

import functools
import logging
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving.model_server import inference
from serving.model_server import loader
from serving.model_server import model_info
from serving.model_server import request_errors
from serving.model_server import request_log as request_log_lib

_log = logging.getLogger("longtail")

SERVICES = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")

_OPTIONS = (
    # Two servers sharing a port would each get half of the requests; the second is to be told.
    ("grpc.so_reuseport", 0),
    # As TF Serving: a batch of images is larger than gRPC's 4 MiB.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


def _answered(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turns what a handler raises into a status of gRPC's, so that no stack trace leaves the server."""

    @functools.wraps(method)
    def handler(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request)
        except request_errors.RequestError as error:
            failure = error
        except Exception:  # whatever it was, this request alone fails
            _log.exception("%s failed", method.__name__)
            failure = request_errors.internal()
        return context.abort(failure.code, failure.message)

    return handler


def _unimplemented(context: grpc.ServicerContext, method: str) -> Any:
    return context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented; use Predict")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the others, which are for models that read tf.Examples, say they are not there."""

    def __init__(self, source: loader.ModelSource, request_log: request_log_lib.RequestLog | None = None):
        self._source = source
        self._request_log = request_log

    @_answered
    def Predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        if not request.HasField("model_spec"):
            raise request_errors.invalid("Missing ModelSpec")
        servable = self._source.get(*model_info.name_and_version(request.model_spec))
        response = inference.predict(servable, request)
        if self._request_log is not None:
            self._request_log.offer(servable, lambda: request)
        return response

    @_answered
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Says what a version takes and gives."""
        if not request.HasField("model_spec"):
            raise request_errors.invalid("Missing ModelSpec")
        model_info.check_fields(request.metadata_field)
        return model_info.metadata(self._source, *model_info.name_and_version(request.model_spec))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not there."""
        return _unimplemented(context, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not there."""
        return _unimplemented(context, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not there."""
        return _unimplemented(context, "MultiInference")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; which model serves is said when the server is started, not by its clients."""

    def __init__(self, source: loader.ModelSource):
        self._source = source

    @_answered
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Says what became of the model's versions."""
        if not request.HasField("model_spec"):
            raise request_errors.invalid("Missing ModelSpec")
        return model_info.status(self._source, *model_info.name_and_version(request.model_spec))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Not there."""
        return _unimplemented(context, "HandleReloadConfigRequest")


class GrpcServer:
    """The gRPC side of the model server.

    Args:
      source: the model.
      address: HOST:PORT; port 0 picks a free one.
      threads: requests worked on at once.
      request_log: keeps a sample of what was asked; None keeps nothing.

    Raises:
      RuntimeError: the address cannot be bound.
    """

    def __init__(
        self,
        source: loader.ModelSource,
        address: str,
        threads: int,
        request_log: request_log_lib.RequestLog | None = None,
    ):
        pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(pool, options=_OPTIONS)
        self._health = health.HealthServicer()
        self._say(health_pb2.HealthCheckResponse.NOT_SERVING)
        predictions = PredictionService(source, request_log)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(source), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port: int = self._server.add_insecure_port(address)

    def _say(self, status: int) -> None:
        for service in ("", *SERVICES):
            self._health.set(service, status)

    def start(self) -> None:
        """Takes requests from now on, and says so to health checks."""
        self._say(health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Takes no more requests, and returns when those under way are done or `grace_s` seconds are over."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()

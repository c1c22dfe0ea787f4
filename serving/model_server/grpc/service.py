"""TF Serving's gRPC services: Predict, GetModelMetadata, GetModelStatus and HandleReloadConfigRequest."""

import asyncio
import time
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.serving.model_server import metrics
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server.batching import asking
from longtail.serving.model_server.runtime import inference
from longtail.serving.model_server.runtime import model_info
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors


def _check_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise request_errors.invalid("Missing ModelSpec")


def _unimplemented(method: str) -> Any:
    async def handler(self: Any, request: Any, context: grpc.aio.ServicerContext) -> None:
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented; use Predict"
        )

    return handler


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; each raises RequestError, of which `guard` makes a status."""

    def __init__(
        self,
        models: models_lib.Models,
        asker: asking.Asker,
        request_log: request_log_lib.RequestLog | None,
        as_content: bool,
    ):
        self._models = models
        self._asker = asker
        self._request_log = request_log
        self._as_content = as_content

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Answers from the model, and counts the answer."""
        name = request.model_spec.name
        with metrics.counted(name if name in self._models.names() else "", "Predict", "GRPC"):
            return await self._predict(request, context)

    async def _predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        _check_spec(request)
        spec, left = request.model_spec, context.time_remaining()
        deadline = None if left is None else time.monotonic() + left
        servable = self._models.acquire(*model_info.wanted(spec))
        try:
            inputs = inference.inputs_of(servable.signature(spec.signature_name), request)
            outputs = await self._asker.ask(servable, spec.signature_name, inputs, request.output_filter, deadline)
        finally:
            servable.release()
        response = inference.response_of(servable, spec.signature_name, outputs, self._as_content)
        if self._request_log is not None:
            self._request_log.offer(servable, lambda: request)
        return response

    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        _check_spec(request)
        model_info.check_fields(request.metadata_field)
        return model_info.metadata(self._models, *model_info.wanted(request.model_spec))

    Classify, Regress, MultiInference = map(_unimplemented, ("Classify", "Regress", "MultiInference"))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: models_lib.Models):
        self._models = models

    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """What became of the versions of a model."""
        _check_spec(request)
        spec = request.model_spec
        return model_info.status(self._models, spec.name, spec.version.value if spec.HasField("version") else None)

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.aio.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves other models, loaded beside the requests."""
        await asyncio.get_running_loop().run_in_executor(None, self._models.reload, request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response

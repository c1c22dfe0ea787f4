"""TF Serving's gRPC services: Predict, GetModelMetadata, GetModelStatus and HandleReloadConfigRequest."""

import dataclasses
import logging
import time
from collections.abc import Callable
from concurrent import futures

import grpc
from google.protobuf import message as message_lib
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2

from longtail.serving.model_server import auth
from longtail.serving.model_server import batching
from longtail.serving.model_server import grpc_call
from longtail.serving.model_server import grpc_core
from longtail.serving.model_server import grpc_health
from longtail.serving.model_server import inference
from longtail.serving.model_server import metrics
from longtail.serving.model_server import model_info
from longtail.serving.model_server import models as models_lib
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server import tls as tls_lib

log = logging.getLogger("longtail")

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
SERVICES = (PREDICTION, MODEL)


@dataclasses.dataclass(frozen=True)
class Options:
    """What gRPC clients may ask of memory and time.

    Attributes:
      max_request_bytes: a larger request is refused; -1 for any.
      max_requests: requests under way; beyond it they are refused.
      max_reply_bytes: of replies that clients have not taken yet; see `grpc_core.Limits`.
      stall_s: how long a client may take to send its request, or to take the reply, seconds.
      channel_arguments: options of gRPC's core, which are given to it last.
    """

    max_request_bytes: int = 64 << 20
    max_requests: int = 1024
    max_reply_bytes: int = 256 << 20
    stall_s: float = 30.0
    channel_arguments: tuple[tuple[str, int | str], ...] = ()

    def arguments(self) -> tuple[tuple[str, int | str], ...]:
        """The options of gRPC's core."""
        return (
            # Two servers sharing a port would each get half of the requests; the second is to be told.
            ("grpc.so_reuseport", 0),
            ("grpc.max_send_message_length", -1),
            # One client must not take all calls there may be. More of one client's wait on its side.
            ("grpc.max_concurrent_streams", max(1, self.max_requests // 4)),
            # A client whose machine is gone says nothing; it is asked now and then.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *self.channel_arguments,
        )


def _unimplemented(method: str) -> Callable[[grpc_call.Call, bytes], None]:
    def handler(call: grpc_call.Call, message: bytes) -> None:
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented; use Predict"
        )

    return handler


class _Prediction:
    """A Predict under way, from its request to its reply."""

    __slots__ = ("_call", "_request", "_servable", "_service", "_began")

    def __init__(self, service: "Services", call: grpc_call.Call, request: predict_pb2.PredictRequest):
        self._service = service
        self._call = call
        self._request = request
        self._began = time.perf_counter()

    def begin(self) -> None:
        """Has it run."""
        spec = self._request.model_spec
        self._servable = self._service.models.acquire(*model_info.wanted(spec))
        try:
            signature = self._servable.signature(spec.signature_name)
            inputs = inference.inputs_of(signature, self._request)
            ticket = self._service.scheduler.submit(
                *(self._servable, spec.signature_name, inputs),
                *(self._request.output_filter, self._call.deadline, self._done),
            )
        finally:
            self._servable.release()
        self._call.on_cancel = ticket.cancel

    def _done(self, result: batching.Outputs | request_errors.RequestError) -> None:
        if not isinstance(result, request_errors.RequestError):
            try:  # now: large answers would pile up until the polling thread comes to them
                self._call.reserve(sum(array.nbytes for array in result.values()))
            except request_errors.RequestError as error:
                result = error
        self._call.run_soon(lambda: self._answer(result))

    def _answer(self, result: batching.Outputs | request_errors.RequestError) -> None:
        code = grpc.StatusCode.OK
        try:
            if isinstance(result, request_errors.RequestError):
                code = result.code
                self._call.fail(result)
            else:
                name = self._request.model_spec.signature_name
                self._call.reply(inference.response_of(self._servable, name, result))
        except Exception as error:  # whatever it was, the client must not wait for it
            log.exception("an answer could not be written: %s", request_errors.first_line(error))
            code = grpc.StatusCode.INTERNAL
            self._call.fail(request_errors.internal())
        self._service.count(self._servable.name, code, self._began)
        if code is grpc.StatusCode.OK and self._service.request_log is not None:
            self._service.request_log.offer(self._servable, lambda: self._request)


class Services:
    """The handlers of both services."""

    def __init__(
        self,
        models: models_lib.Models,
        scheduler: batching.Scheduler,
        request_log: request_log_lib.RequestLog | None,
    ):
        self.models = models
        self.scheduler = scheduler
        self.request_log = request_log
        self._aside = futures.ThreadPoolExecutor(2, thread_name_prefix="grpc-aside")  # for what takes its time

    def methods(self) -> dict[str, grpc_call.Method]:
        """By name, for `grpc_core.Server`."""
        handlers = {
            f"/{PREDICTION}/GetModelMetadata": self._get_model_metadata,
            **{f"/{PREDICTION}/{name}": _unimplemented(name) for name in ("Classify", "Regress", "MultiInference")},
            f"/{MODEL}/GetModelStatus": self._get_model_status,
            f"/{MODEL}/HandleReloadConfigRequest": self._handle_reload_config,
        }
        return {
            f"/{PREDICTION}/Predict": grpc_call.Method(self._predict, is_light=False),
            **{name: grpc_call.Method(handler) for name, handler in handlers.items()},
        }

    def count(self, name: str, code: grpc.StatusCode, began: float) -> None:
        """Counts an answered Predict."""
        metrics.request(name, "Predict", "GRPC", code, time.perf_counter() - began)

    def _predict(self, call: grpc_call.Call, message: bytes) -> None:
        began = time.perf_counter()
        request = predict_pb2.PredictRequest.FromString(message)
        try:
            if not request.HasField("model_spec"):
                raise request_errors.invalid("Missing ModelSpec")
            _Prediction(self, call, request).begin()
        except request_errors.RequestError as error:
            name = request.model_spec.name
            self.count(name if name in self.models.names() else "", error.code, began)
            raise

    def _aside_of(self, call: grpc_call.Call, answer: Callable[[], message_lib.Message]) -> None:
        def work() -> None:
            try:
                call.reply(answer().SerializeToString())
            except request_errors.RequestError as error:
                call.fail(error)
            except Exception as error:  # whatever it was, this call alone fails
                log.exception("a gRPC call failed: %s", request_errors.first_line(error))
                call.fail(request_errors.internal())

        self._aside.submit(work)

    def _get_model_metadata(self, call: grpc_call.Call, message: bytes) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest.FromString(message)
        if not request.HasField("model_spec"):
            raise request_errors.invalid("Missing ModelSpec")
        model_info.check_fields(request.metadata_field)
        response = model_info.metadata(self.models, *model_info.wanted(request.model_spec))
        call.reply(response.SerializeToString())

    def _get_model_status(self, call: grpc_call.Call, message: bytes) -> None:
        request = get_model_status_pb2.GetModelStatusRequest.FromString(message)
        if not request.HasField("model_spec"):
            raise request_errors.invalid("Missing ModelSpec")
        name, version, _ = model_info.wanted(request.model_spec)
        call.reply(model_info.status(self.models, name, version).SerializeToString())

    def _handle_reload_config(self, call: grpc_call.Call, message: bytes) -> None:
        request = model_management_pb2.ReloadConfigRequest.FromString(message)

        def reload() -> message_lib.Message:
            self.models.reload(request.config)
            response = model_management_pb2.ReloadConfigResponse()
            response.status.SetInParent()
            return response

        self._aside_of(call, reload)

    def close(self) -> None:
        """Ends its threads, not waiting for what they do."""
        self._aside.shutdown(wait=False)


class GrpcServer:
    """The gRPC side of the model server.

    Args:
      models: the models.
      scheduler: runs them.
      address: HOST:PORT; port 0 picks a free one.
      options: what clients may ask.
      request_log: keeps a sample of what was asked; None keeps nothing.
      tokens: says who may ask.
      tls: what the port proves itself with; None speaks plain.

    Raises:
      RuntimeError: the address cannot be bound.
    """

    def __init__(
        self,
        models: models_lib.Models,
        scheduler: batching.Scheduler,
        address: str,
        options: Options = Options(),
        request_log: request_log_lib.RequestLog | None = None,
        tokens: auth.Tokens | auth.Anyone = auth.ANYONE,
        tls: tls_lib.Server | None = None,
    ):
        self._services = Services(models, scheduler, request_log)
        self._health = grpc_health.Health(SERVICES)
        methods = {
            **self._services.methods(),
            **self._health.methods(),
            **grpc_health.reflection_methods((*SERVICES, grpc_health.SERVICE)),
        }
        limits = grpc_core.Limits(
            options.max_request_bytes, options.max_requests, options.max_reply_bytes, options.stall_s
        )
        self._server = grpc_core.Server(methods, options.arguments(), limits, tokens)
        credentials = tls.grpc_credentials() if tls is not None else None
        self.port = self._server.listen(address, credentials)
        self._ungauge = metrics.gauge(
            "longtail_serving_grpc_in_flight", "gRPC calls under way.", self._server.in_flight
        )

    def start(self) -> None:
        """Takes requests from now on, and says so to health checks."""
        self._health.serve()
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Takes no more requests, and returns when those under way are done or `grace_s` seconds are over."""
        self._health.stop()
        if not self._server.stop(grace_s):
            log.error("a gRPC call did not end within %g s", grace_s)
        self._services.close()
        self._ungauge()

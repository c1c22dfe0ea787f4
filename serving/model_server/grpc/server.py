"""The gRPC side of the model server: both services, health and reflection on `grpc.aio`."""

import dataclasses

import grpc
from grpc_health.v1 import health
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import model_service_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server.batching import asking
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.config import tls as tls_lib
from longtail.serving.model_server.grpc import guard as guard_lib
from longtail.serving.model_server.grpc import service
from longtail.serving.model_server.runtime import models as models_lib

PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
MODEL = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
SERVICES = (PREDICTION, MODEL)
_LAST_WORD_S = 0.2  # for streams that go on for ever, such as a watch of the health
_SPARE = 16  # calls; gRPC counts one until a little after its end
# What health answers for: the server, the services, and the names that TF Serving's model_servers/server.cc gives them.
HEALTHY = ("", *SERVICES, "PredictionService", "ModelService")


@dataclasses.dataclass(frozen=True)
class Options:
    """What gRPC clients may ask of memory and time."""

    max_request_bytes: int = 64 << 20  # a larger request is refused; -1 for any
    max_requests: int = 1024  # predictions under way; of all calls there may be twice as many, and a few
    as_content: bool = False  # whether numbers are answered as raw bytes, not in the field of their type
    channel_arguments: tuple[tuple[str, int | str], ...] = ()  # of gRPC's core, which are given to it last

    def arguments(self) -> tuple[tuple[str, int | str], ...]:
        """The options of gRPC's core."""
        return (
            # Two servers sharing a port would each get half of the requests; the second is to be told.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            # One client must not take all calls there may be. More of one client's wait on its side.
            ("grpc.max_concurrent_streams", max(16, self.max_requests // 4)),
            # A client whose machine is gone says nothing; it is asked now and then.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *self.channel_arguments,
        )


class GrpcServer:
    """The server, at HOST:PORT `address`. Make, start and stop it in one event loop; RuntimeError where it is taken."""

    def __init__(
        self,
        models: models_lib.Models,
        asker: asking.Asker,
        address: str,
        options: Options = Options(),
        request_log: request_log_lib.RequestLog | None = None,
        tokens: auth.Tokens | None = None,
        tls: tls_lib.Server | None = None,
    ):
        self._guard = guard_lib.Guard(tokens, options.max_requests, f"/{PREDICTION}/Predict")
        self._server = grpc.aio.server(
            interceptors=[self._guard],
            options=options.arguments(),
            maximum_concurrent_rpcs=2 * options.max_requests + _SPARE,
        )
        predictions = service.PredictionService(models, asker, request_log, options.as_content)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(predictions, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(service.ModelService(models), self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        if tls is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, tls.grpc_credentials())
        if not self.port:  # as older releases say it
            raise RuntimeError(f"{address} cannot be bound")

    async def start(self) -> None:
        """Takes requests from now on, and says so to health checks."""
        for name in HEALTHY:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Takes no more requests, and returns when those under way are done or `grace_s` seconds are over."""
        await self._health.enter_graceful_shutdown()
        await self._guard.stop(grace_s)
        await self._server.stop(min(_LAST_WORD_S, grace_s))

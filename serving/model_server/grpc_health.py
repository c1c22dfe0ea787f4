"""grpc.health.v1 and reflection on `grpc_core`, for the stock clients of both."""

import threading

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2

from longtail.serving.model_server import grpc_call
from longtail.serving.model_server import grpc_streams
from longtail.serving.model_server import request_errors

SERVICE = "grpc.health.v1.Health"
_STATUS = health_pb2.HealthCheckResponse


def _reply(status: int) -> bytes:
    return _STATUS(status=status).SerializeToString()


class Health:
    """What health checks are told: every service serves, or none does.

    Args:
      services: their names; "" is the server.
    """

    def __init__(self, services: tuple[str, ...]):
        self._services = frozenset(("", *services))
        self._status = _STATUS.NOT_SERVING
        self._watching: set[grpc_streams.Stream] = set()
        self._lock = threading.Lock()

    def methods(self) -> dict[str, grpc_call.Method]:
        """By name, for `grpc_core.Server`."""
        return {
            f"/{SERVICE}/Check": grpc_call.Method(self._check, is_open=True),
            f"/{SERVICE}/Watch": grpc_call.Method(self._watch, grpc_streams.Stream, is_open=True),
        }

    def _check(self, call: grpc_call.Call, message: bytes) -> None:
        if _service(message) not in self._services:
            raise request_errors.not_found("unknown service")
        call.reply(_reply(self._status))

    def _watch(self, call: grpc_streams.Stream, message: bytes) -> None:
        if _service(message) not in self._services:
            call.send(_reply(_STATUS.SERVICE_UNKNOWN))
            return

        def forget() -> bool:
            with self._lock:
                self._watching.discard(call)
            return True

        call.on_cancel = forget
        with self._lock:
            self._watching.add(call)
            call.send(_reply(self._status))

    def serve(self) -> None:
        """Says from now on that all of them serve."""
        self._tell(_STATUS.SERVING)

    def _tell(self, status: int) -> list[grpc_streams.Stream]:
        with self._lock:
            self._status = status
            for call in self._watching:
                call.send(_reply(status))
            return list(self._watching)

    def stop(self) -> None:
        """Says that none serves any more, and ends the calls that watch."""
        for call in self._tell(_STATUS.NOT_SERVING):
            call.finish(request_errors.RequestError(grpc.StatusCode.UNAVAILABLE, "The server is stopping"))



def _service(message: bytes) -> str:
    return health_pb2.HealthCheckRequest.FromString(message).service


def reflection_methods(services: tuple[str, ...]) -> dict[str, grpc_call.Method]:
    """Reflection of `services` and of itself, by name, for `grpc_core.Server`."""
    servicer = reflection.ReflectionServicer((*services, reflection.SERVICE_NAME))

    def tell(call: grpc_streams.Chat, message: bytes) -> None:
        request = reflection_pb2.ServerReflectionRequest.FromString(message)
        [response] = servicer.ServerReflectionInfo(iter([request]), None)
        call.send(response.SerializeToString())

    return {f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": grpc_call.Method(tell, grpc_streams.Chat)}

"""Answers TF Serving's REST API: status, metadata and predictions, the latter through the scheduler that gRPC uses."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Mapping
from concurrent import futures
from typing import Any
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf import message as message_lib
from tensorflow_serving.apis import get_model_metadata_pb2

from longtail.serving.model_server import batching
from longtail.serving.model_server import json_answers
from longtail.serving.model_server import json_tensors
from longtail.serving.model_server import metrics
from longtail.serving.model_server import model_info
from longtail.serving.model_server import models as models_lib
from longtail.serving.model_server import request_errors
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server import rest_bodies
from longtail.serving.model_server import rest_paths
from longtail.serving.model_server import servable as servable_lib

_T = TypeVar("_T")
_Outcome = Mapping[str, np.ndarray] | Exception

_THREADS = 8  # for what waits, and would keep the event loop from others
_JSON_THREADS = 2  # for large JSON, which takes twenty times its size in memory until it is an array
_LARGE_BODY = 64 << 10  # bytes; JSON of more is read aside
_LARGE_ANSWER = 16 << 10  # values; more are written aside


def _dict(message: message_lib.Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)


def _settle(outcome: "asyncio.Future[_Outcome]", result: _Outcome) -> None:
    if not outcome.done():
        outcome.set_result(result)


async def _hung_up(receive: rest_bodies.Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class Api:
    """The answers.

    Args:
      models: the models.
      scheduler: runs them.
      timeout_s: longest time a prediction may take, seconds.
      request_log: keeps a sample of what was asked; None keeps nothing.
    """

    def __init__(
        self,
        models: models_lib.Models,
        scheduler: batching.Scheduler,
        timeout_s: float,
        request_log: request_log_lib.RequestLog | None,
    ):
        self._models = models
        self._scheduler = scheduler
        self._timeout_s = timeout_s
        self._request_log = request_log
        self._pool = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="rest")
        self._json_pool = futures.ThreadPoolExecutor(_JSON_THREADS, thread_name_prefix="rest-json")

    def close(self) -> None:
        """Ends its threads."""
        self._pool.shutdown(wait=False)
        self._json_pool.shutdown(wait=False)

    async def aside(self, function: Callable[..., _T], *args: Any) -> _T:
        """Runs `function` where it keeps nobody waiting."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def _run(self, is_large: bool, function: Callable[..., _T], *args: Any) -> _T:
        if not is_large:
            return function(*args)
        return await asyncio.get_running_loop().run_in_executor(self._json_pool, function, *args)

    async def parse(self, body: bytes) -> dict[str, Any]:
        """The JSON object in a body.

        Raises:
          RequestError: INVALID_ARGUMENT, it is not one.
        """
        return await self._run(len(body) > _LARGE_BODY, json_tensors.parse, body)

    async def answer(
        self, target: rest_paths.Target, body: Callable[[], Awaitable[bytes]], receive: rest_bodies.Receive
    ) -> bytes:
        """The JSON that answers a request.

        Args:
          target: what it asks for.
          body: gives its body.
          receive: tells, after the body, that the client hung up.

        Raises:
          RequestError: it cannot be answered.
          GoneError: the client hung up.
        """
        began, code = time.perf_counter(), grpc.StatusCode.OK
        try:
            if target.method == "predict":
                return await self._predict(target, await body(), receive)
            return await self._tell(target)
        except request_errors.RequestError as error:
            code = error.code
            raise
        except rest_bodies.GoneError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:
            code = grpc.StatusCode.INTERNAL
            raise
        finally:
            name = target.name if target.name in self._models.names() else ""
            metrics.request(name, target.method, "REST", code, time.perf_counter() - began)

    async def _tell(self, target: rest_paths.Target) -> bytes:
        if not target.method:
            return json_answers.dump(_dict(model_info.status(self._models, target.name, target.version)))
        if target.method == "metadata":
            return json_answers.dump(await self.aside(self._metadata, target))
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"{target.method.capitalize()} is not implemented; use Predict"
        )

    def _metadata(self, target: rest_paths.Target) -> dict[str, Any]:
        message = model_info.metadata(self._models, target.name, target.version, target.label)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        message.metadata[model_info.SIGNATURE_DEF].Unpack(definitions)
        return {
            "model_spec": _dict(message.model_spec),
            "metadata": {model_info.SIGNATURE_DEF: _dict(definitions)},
        }

    async def _predict(self, target: rest_paths.Target, body: bytes, receive: rest_bodies.Receive) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        is_large = len(body) > _LARGE_BODY
        document = await self.parse(body)
        name = json_tensors.signature_name(document)
        servable = self._models.acquire(target.name, target.version, target.label)
        try:
            signature = servable.signatures.get(name or servable_lib.DEFAULT_SIGNATURE)
            if signature is None:
                raise request_errors.invalid(f'Serving signature name: "{name}" not found in signature def')
            inputs, in_rows = await self._run(is_large, json_tensors.inputs_of, document, signature.inputs)
            del body, document  # large ones are not to be kept while the model runs
            outputs = await self._outputs(servable, name, inputs, deadline, receive)
        finally:
            servable.release()
        if self._request_log is not None:
            self._request_log.offer(servable, lambda: request_log_lib.of_tensors(name, inputs))
        is_large = sum(array.size for array in outputs.values()) > _LARGE_ANSWER
        return await self._run(is_large, json_answers.answer, outputs, in_rows)

    async def _outputs(
        self,
        servable: servable_lib.Servable,
        name: str,
        inputs: dict[str, np.ndarray],
        deadline: float,
        receive: rest_bodies.Receive,
    ) -> Mapping[str, np.ndarray]:
        """What the model answers, unless the time is over or the client gone before."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_Outcome] = loop.create_future()

        def done(result: _Outcome) -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped and the loop is closed
                loop.call_soon_threadsafe(_settle, outcome, result)

        ticket = self._scheduler.submit(servable, name, inputs, (), deadline, done)
        gone = loop.create_task(_hung_up(receive))
        gone.add_done_callback(lambda _: _settle(outcome, rest_bodies.GoneError()))
        late = request_errors.RequestError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"Timed out: no answer within {self._timeout_s:g} s"
        )
        timer = loop.call_later(deadline - time.monotonic(), _settle, outcome, late)
        try:
            result = await outcome
        finally:
            timer.cancel()
            gone.cancel()
            ticket.cancel()  # which does nothing where it was answered
        if isinstance(result, Exception):
            raise result
        return result

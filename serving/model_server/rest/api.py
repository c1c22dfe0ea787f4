"""Answers TF Serving's REST API: status, metadata and predictions, the latter through the scheduler that gRPC uses."""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf import message as message_lib
from tensorflow_serving.apis import get_model_metadata_pb2

from longtail.serving import retrieval as retrieval_lib
from longtail.serving.model_server import metrics
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server.batching import asking
from longtail.serving.model_server.rest import bodies
from longtail.serving.model_server.rest import json_answers
from longtail.serving.model_server.rest import json_requests
from longtail.serving.model_server.rest import paths
from longtail.serving.model_server.runtime import model_info
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib

_T = TypeVar("_T")

_LARGE_BODY = 64 << 10  # bytes; JSON of more is read aside
_LARGE_ANSWER = 16 << 10  # values; more are written aside


def _dict(message: message_lib.Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)


async def _run(is_large: bool, function: Callable[..., _T], *args: Any) -> _T:
    """Runs `function`; aside if it takes long, so that it keeps nobody waiting."""
    return await asyncio.to_thread(function, *args) if is_large else function(*args)


class Api:
    """The answers of `models`; a prediction takes no longer than `timeout_s` seconds."""

    def __init__(
        self,
        models: models_lib.Models,
        asker: asking.Asker,
        timeout_s: float,
        retrieval: retrieval_lib.Retrieval | None = None,
        request_log: request_log_lib.RequestLog | None = None,
    ):
        self.is_ready = models.ready
        self._models = models
        self._asker = asker
        self._timeout_s = timeout_s
        self._retrieval = retrieval
        self._request_log = request_log

    async def answer(self, target: paths.Target, headers: Mapping[bytes, bytes], body: bodies.Body) -> bytes:
        """The JSON that answers a request, which is counted."""
        name = target.name if target.name in self._models.names() else ""
        with metrics.counted(name, target.method, "REST"):
            if target.method == "predict":
                return await self._predict(target, await body.read(headers), body)
            return await self._tell(target)

    async def _tell(self, target: paths.Target) -> bytes:
        if not target.method:
            return json_answers.dump(_dict(model_info.status(self._models, target.name, target.version)))
        if target.method == "metadata":
            return json_answers.dump(await _run(True, self._metadata, target))
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"{target.method.capitalize()} is not implemented; use Predict"
        )

    def _metadata(self, target: paths.Target) -> dict[str, Any]:
        message = model_info.metadata(self._models, target.name, target.version, target.label)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        message.metadata[model_info.SIGNATURE_DEF].Unpack(definitions)
        return {
            "model_spec": _dict(message.model_spec),
            "metadata": {model_info.SIGNATURE_DEF: _dict(definitions)},
        }

    async def identify(self, content: bytes) -> bytes:
        """The JSON that says who is on images; FAILED_PRECONDITION without a gallery."""
        retrieval = self._retrieval
        if retrieval is None:
            line = "No gallery is served; start the server with --gallery"
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, line)
        return await _run(True, lambda: json_answers.dump(retrieval.identify(json_requests.parse(content))))

    async def _predict(self, target: paths.Target, content: bytes, body: bodies.Body) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        is_large = len(content) > _LARGE_BODY
        document = await _run(is_large, json_requests.parse, content)
        name = json_requests.signature_name(document)
        servable = self._models.acquire(target.name, target.version, target.label)
        try:
            signature = servable.signatures.get(name or servable_lib.DEFAULT_SIGNATURE)
            if signature is None:
                raise request_errors.invalid(f'Serving signature name: "{name}" not found in signature def')
            inputs, in_rows = await _run(is_large, json_requests.inputs_of, document, signature.inputs)
            del content, document  # large ones are not to be kept while the model runs
            outputs = await self._outputs(servable, name, inputs, deadline, body)
        finally:
            servable.release()
        if self._request_log is not None:
            self._request_log.offer(servable, lambda: request_log_lib.of_tensors(name, inputs))
        is_large = sum(array.size for array in outputs.values()) > _LARGE_ANSWER
        return await _run(is_large, json_answers.answer, outputs, in_rows)

    async def _outputs(
        self,
        servable: servable_lib.Servable,
        name: str,
        inputs: dict[str, np.ndarray],
        deadline: float,
        body: bodies.Body,
    ) -> Mapping[str, np.ndarray]:
        """What the model answers, unless the time is over or the client gone before."""
        answer = asyncio.ensure_future(self._asker.ask(servable, name, inputs, (), deadline))
        gone = asyncio.ensure_future(body.hung_up())
        try:
            left_s = max(0.0, deadline - time.monotonic())
            await asyncio.wait({answer, gone}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            if gone.done():
                raise bodies.gone()
            line = f"Timed out: no answer within {self._timeout_s:g} s"
            raise request_errors.RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, line)
        finally:
            answer.cancel()
            gone.cancel()

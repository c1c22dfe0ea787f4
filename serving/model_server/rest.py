"""TF Serving's REST API over a ModelSource, and the gallery's search beside it."""

import json
import logging
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import json_format
from starlette import applications
from starlette import concurrency
from starlette import exceptions
from starlette import requests
from starlette import responses
from starlette import routing

from serving import versions
from serving.model_server import json_tensors
from serving.model_server import loader
from serving.model_server import model_info
from serving.model_server import request_errors
from serving.model_server import request_log as request_log_lib
from serving.model_server import retrieval as retrieval_lib

_log = logging.getLogger("longtail")

_VERSIONED = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")

# path parameters, body -> JSON object
Answer = Callable[[dict[str, Any], bytes], dict[str, Any]]


def _reply(content: dict[str, Any], status: int = 200) -> responses.Response:
    # Not JSONResponse, which refuses the NaN a model may well answer.
    return responses.Response(json.dumps(content), status, media_type="application/json")


def _malformed(request: requests.Request) -> str:
    return f"Malformed request: {request.method} {request.url.path}"


def _parameters(request: requests.Request) -> dict[str, Any]:
    """The model's name, and its version where the path has one, as TF Serving reads them.

    Raises:
      RequestError: INVALID_ARGUMENT, a verb that is not there, or a version that is no int64.
    """
    parameters = dict(request.path_params)
    version = parameters.get("version")
    if ":" in parameters.get("name", "") or (version is not None and not (version.isascii() and version.isdecimal())):
        raise request_errors.invalid(_malformed(request))
    if version is not None:
        parameters["version"] = versions.parse(version)
        if parameters["version"] is None:
            raise request_errors.invalid(f"Failed to convert version: {version} to numeric.")
    return parameters


def _endpoint(answer: Answer) -> Callable[[requests.Request], Any]:
    async def endpoint(request: requests.Request) -> responses.Response:
        body = await request.body()
        try:
            return _reply(await concurrency.run_in_threadpool(answer, _parameters(request), body))
        except request_errors.RequestError as error:
            failure = error
        except Exception:  # whatever it was, this request alone fails
            _log.exception("%s %s failed", request.method, request.url.path)
            failure = request_errors.internal()
        return _reply({"error": failure.message}, failure.http_status)

    return endpoint


async def _unknown_path(request: requests.Request, error: Exception) -> responses.Response:
    assert isinstance(error, exceptions.HTTPException)
    if request.url.path.startswith("/v1/"):
        return _reply({"error": _malformed(request)}, 400)
    return _reply({"error": "Not Found"}, error.status_code)


class _Handlers:
    def __init__(
        self,
        source: loader.ModelSource,
        retrieval: retrieval_lib.Retrieval | None,
        request_log: request_log_lib.RequestLog | None,
    ):
        self._source = source
        self._retrieval = retrieval
        self._request_log = request_log

    def status(self, path: dict[str, Any], body: bytes) -> dict[str, Any]:
        message = model_info.status(self._source, path["name"], path.get("version"))
        return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)

    def metadata(self, path: dict[str, Any], body: bytes) -> dict[str, Any]:
        message = model_info.metadata(self._source, path["name"], path.get("version"))
        return json_format.MessageToDict(message, including_default_value_fields=True, preserving_proto_field_name=True)

    def predict(self, path: dict[str, Any], body: bytes) -> dict[str, Any]:
        document = json_tensors.parse(body)
        servable = self._source.get(path["name"], path.get("version"))
        name = json_tensors.signature_name(document)
        signature = servable.signature(name)
        inputs, rows = json_tensors.inputs_of(document, signature.inputs)
        answer = json_tensors.answer(signature.run(inputs), rows)
        if self._request_log is not None:
            self._request_log.offer(servable, lambda: request_log_lib.of_tensors(name, inputs))
        return answer

    def identify(self, path: dict[str, Any], body: bytes) -> dict[str, Any]:
        if self._retrieval is None:
            raise request_errors.RequestError(
                grpc.StatusCode.FAILED_PRECONDITION, "No gallery is served; start the server with --gallery"
            )
        return self._retrieval.identify(json_tensors.parse(body))


def application(
    source: loader.ModelSource,
    retrieval: retrieval_lib.Retrieval | None = None,
    request_log: request_log_lib.RequestLog | None = None,
) -> applications.Starlette:
    """The ASGI application.

    Args:
      source: the model.
      retrieval: answers /v1/gallery:identify, where there is a gallery.
      request_log: keeps a sample of what was asked; None keeps nothing.
    """
    handlers = _Handlers(source, retrieval, request_log)
    routes = [
        routing.Route("/v1/gallery:identify", _endpoint(handlers.identify), methods=["POST"]),
        # Before the status, whose {name} would match "NAME:predict" too.
        *(routing.Route(f"{at}:predict", _endpoint(handlers.predict), methods=["POST"]) for at in _VERSIONED),
        *(routing.Route(f"{at}/metadata", _endpoint(handlers.metadata), methods=["GET"]) for at in _VERSIONED),
        *(routing.Route(at, _endpoint(handlers.status), methods=["GET"]) for at in _VERSIONED),
    ]
    unknown = {404: _unknown_path, 405: _unknown_path}
    return applications.Starlette(routes=routes, exception_handlers=unknown)

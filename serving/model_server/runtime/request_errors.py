"""What a client is told when its request fails: a code of gRPC's and one line, the same over gRPC and REST."""

import logging
import re

import grpc
import tensorflow as tf

log = logging.getLogger("longtail")

# As ToHTTPStatusCode of TF Serving's model_servers/http_server.cc; what is not here is 500.
HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

_LONGEST = 1024  # characters of a message, as in TF Serving's model_servers/grpc_status_util.cc
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# TensorFlow frames the line that matters with where in the graph it happened.
_FRAME = re.compile(r"\s|Graph execution error|Detected at node|<stack traces|Stack trace|\d+ root error")
_WHERE = re.compile(r" \[Op:.*?\]|\{\{function_node .*?\}\} ?|^\(\d+\) [A-Z][a-z ]+: +")


class RequestError(Exception):
    """A request that cannot be answered. `code` and `message` (one line) go to the client as they are."""

    def __init__(self, code: grpc.StatusCode, message: str, http_status: int = 0):
        if len(message) > _LONGEST:  # it may repeat what the client sent, and goes in a header of HTTP
            message = f"{message[:_LONGEST]}...TRUNCATED"
        super().__init__(message)
        self.code = code
        self.message = " ".join(message.splitlines())
        self.http_status = http_status or HTTP_STATUS.get(code, 500)


def invalid(message: str) -> RequestError:
    """The client sent what the signature does not take."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RequestError:
    """The client asked for a model or version that does not serve."""
    return RequestError(grpc.StatusCode.NOT_FOUND, message)


def no_servable(name: str, version: int | None) -> RequestError:
    """No version answers the request, in the words of TF Serving's core/basic_manager.cc."""
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return not_found(f"Servable not found for request: {wanted}")


def no_states(name: str, version: int | None) -> RequestError:
    """Nothing is known of the model or version, in the words of TF Serving's get_model_status_impl.cc."""
    what = "any versions" if version is None else f"version {version}"
    return not_found(f"Could not find {what} of model {name}")


def exhausted(message: str) -> RequestError:
    """The server has too much to do."""
    return RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{message}; try again later")


def stopping() -> RequestError:
    """The server takes no more requests."""
    return RequestError(grpc.StatusCode.UNAVAILABLE, "The server is stopping")


def first_line(error: BaseException) -> str:
    """The one line of an exception's text that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line and not _FRAME.match(line)]
    return _WHERE.sub("", lines[0]).strip() if lines else type(error).__name__


def from_tensorflow(error: tf.errors.OpError) -> RequestError:
    """The model's own failure, its code kept, its graph and stack left out."""
    return RequestError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), first_line(error))


def of(error: Exception) -> RequestError:
    """What a client is told of `error`: of a fault of the server's own no more than that; its log says the rest."""
    if isinstance(error, RequestError):
        return error
    log.error("a request failed: %s", first_line(error), exc_info=error)
    return RequestError(grpc.StatusCode.INTERNAL, "Internal error; the server's log says more")


def code_name(number: int) -> str:
    """What a code is called: 5 is NOT_FOUND."""
    return _CODES[number].name


def told(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Code and line of whatever made a version fail to load, for its status."""
    if isinstance(error, tf.errors.OpError):
        error = from_tensorflow(error)
    if isinstance(error, RequestError):
        return error.code, error.message
    code = grpc.StatusCode.DATA_LOSS if isinstance(error, OSError) else grpc.StatusCode.UNKNOWN
    return code, first_line(error)

"""What a client is told when its request fails: a code of gRPC's and one line, the same over gRPC and REST."""

import re

import grpc
import tensorflow as tf

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

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# TensorFlow frames the line that matters with where in the graph it happened.
_FRAME = re.compile(r"\s|Graph execution error|Detected at node|<stack traces|Stack trace|\d+ root error")


class RequestError(Exception):
    """A request that cannot be answered. `code` and `message` go to the client as they are.

    Attributes:
      code: grpc.StatusCode.
      message: one line.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status TF Serving answers with for this code."""
        return HTTP_STATUS.get(self.code, 500)


def invalid(message: str) -> RequestError:
    """The client sent what the signature does not take."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RequestError:
    """The client asked for a model or version that does not serve."""
    return RequestError(grpc.StatusCode.NOT_FOUND, message)


def internal() -> RequestError:
    """A fault of the server's own. What happened stands in its log, not in the answer."""
    return RequestError(grpc.StatusCode.INTERNAL, "Internal error; the server's log says more")


def first_line(error: BaseException) -> str:
    """The one line of an exception's text that says what was wrong."""
    lines = [line for line in str(error).splitlines() if line and not _FRAME.match(line)]
    line = lines[0] if lines else type(error).__name__
    return re.sub(r" \[Op:.*?\]|\{\{function_node .*?\}\} ?", "", line).strip()


def from_tensorflow(error: tf.errors.OpError) -> RequestError:
    """The model's own failure, its code kept, its graph and stack left out."""
    return RequestError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), first_line(error))

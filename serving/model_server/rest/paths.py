"""What a path of TF Serving's REST API asks for; as its model_servers/http_rest_api_util.cc reads it."""

import dataclasses
import functools
import re
import urllib.parse

from longtail.models.export import versions
from longtail.serving.model_server.runtime import request_errors

_ROOT = re.compile(r"/v1/.*", re.IGNORECASE | re.DOTALL)
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_FLAGS = re.ASCII | re.IGNORECASE
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", _FLAGS)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?:/(?P<method>metadata))?", _FLAGS)
_METHODS = ("classify", "regress", "predict", "metadata")


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked for.

    Attributes:
      method: "predict", "classify", "regress", "metadata", or empty for the status.
      name: the model's.
      version: its number, None where the path has none.
      label: empty where the path has none.
    """

    method: str
    name: str
    version: int | None = None
    label: str = ""


def is_api(path: str) -> bool:
    """Whether TF Serving takes a path for one of its API, known or malformed."""
    return _ROOT.fullmatch(path) is not None


@functools.lru_cache(1024)
def parse(method: str, path: str) -> Target:
    """What is asked for.

    Args:
      method: HTTP's, GET or POST or another.
      path: as it came, with the query behind it.

    Raises:
      RequestError: INVALID_ARGUMENT, no such path for `method`, or a version that is no int64.
    """
    pattern = {"GET": _GET, "POST": _POST}.get(method)
    found = pattern.fullmatch(path) if pattern is not None else None
    if found is None:
        raise request_errors.invalid(f"Malformed request: {method} {path}")
    version = None
    if found["version"] is not None:
        version = versions.parse(found["version"])
        if version is None:
            raise request_errors.invalid(f"Failed to convert version: {found['version']} to numeric.")
    if not found["name"]:
        raise request_errors.invalid("Missing model name in request.")
    asked = found["method"] or ""
    if asked not in _METHODS:  # in other letters: the pattern takes it, and what is behind the pattern does not
        if method == "POST":
            raise request_errors.invalid(f"Malformed request: {method} {path}")
        asked = ""
    return Target(asked, _plain(found["name"]), version, _plain(found["label"] or ""))


def _plain(text: str) -> str:
    return urllib.parse.unquote(text, errors="replace") if "%" in text else text

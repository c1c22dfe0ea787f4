"""What a path of TF Serving's REST API asks for; as its model_servers/http_rest_api_util.cc reads it."""

import dataclasses
import functools
import re
import urllib.parse

from longtail.models.export import versions
from longtail.serving.model_server.runtime import request_errors

API = "/v1/"  # begins every path of it, known or malformed

_WHICH = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){_WHICH}:(?P<method>classify|regress|predict)", re.ASCII)
_GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_WHICH}(?:/(?P<method>metadata))?", re.ASCII)


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
    version = None if found["version"] is None else versions.parse(found["version"])
    if found["version"] is not None and version is None:
        raise request_errors.invalid(f"Failed to convert version: {found['version']} to numeric.")
    if not found["name"]:
        raise request_errors.invalid("Missing model name in request.")
    name, label = (urllib.parse.unquote(found[part] or "", errors="replace") for part in ("name", "label"))
    return Target(found["method"] or "", name, version, label)

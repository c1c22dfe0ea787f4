"""Kubeflow Pipelines' REST API (v2beta1) over HTTP: TLS verified, a token, retries that make nothing twice."""

import dataclasses
import json
import os
import time
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import requests

from longtail.models import errors

TOKEN_VARIABLE = "LONGTAIL_KFP_TOKEN"

_API = "/apis/v2beta1"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PAGE = 100
_TRY_AGAIN = (429, 500, 502, 503, 504)
_LONGEST_PAUSE_S = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """How to reach the API.

    Attributes:
      endpoint: what stands before `/apis/v2beta1`.
      token: sent as a bearer token; none where empty.
      ca: file of certificates to trust instead of the system's; empty for the system's.
      timeout_s: longest wait for a connection, and then for an answer.
      tries: how often a request is sent where the server is busy, broken or gone.
      pause_s: before the second try; it doubles with each.
    """

    endpoint: str
    token: str = ""
    ca: str = ""
    timeout_s: float = 30.0
    tries: int = 5
    pause_s: float = 0.5

    def __post_init__(self):
        address = _split(self.endpoint)
        if address is None or address.scheme not in ("http", "https") or address.query or address.fragment:
            raise errors.UsageError(f"--endpoint {self.endpoint} is no address; give one like https://HOST/pipeline")
        if self.token and address.scheme == "http" and address.hostname not in _LOOPBACK:
            raise errors.UsageError(
                f"--endpoint {self.endpoint} would carry the token of {TOKEN_VARIABLE} unencrypted; use https"
            )
        if any(not "!" <= letter <= "~" for letter in self.token):
            raise errors.UsageError(f"{TOKEN_VARIABLE} holds blanks, line ends or letters beyond ASCII: no token")
        if self.ca and not os.path.isfile(self.ca):
            raise errors.UsageError(f"--ca {self.ca}: no such file; give a file of PEM certificates")


def _split(address: str) -> urllib.parse.SplitResult | None:
    """The parts of an address that names a host, or None."""
    try:
        parts = urllib.parse.urlsplit(address)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:  # a port out of range, a broken IPv6 address
        return None


class AnswerError(errors.WorkError):
    """The server has answered, and not as asked."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class _PassingError(Exception):
    """May be over at the next try. Whether the server did what was asked is not known."""

    def __init__(self, why: str, after_s: float = 0.0):
        super().__init__(why)
        self.after_s = after_s


class Api:
    """One server. Also a context manager, which closes its connections."""

    def __init__(self, options: Options):
        self.options = options
        self._base = options.endpoint.rstrip("/")
        self._session = requests.Session()
        self._session.auth = self._authorize  # a session without one would look for passwords in ~/.netrc

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *exception) -> None:
        self._session.close()

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.options.token:
            request.headers["Authorization"] = f"Bearer {self.options.token}"
        return request

    def page(self, run_id: str, kind: str = "runs") -> str:
        """Where a person sees a run, or, with `kind` "recurringrun", a recurring one."""
        return f"{self._base}/#/{kind}/details/{run_id}"

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Reads; tried again while the server is busy, broken or gone."""
        return self._persist(lambda: self._once("GET", path, query))

    def find(self, path: str, key: str, by: str, name: str, **query: str) -> list[dict[str, Any]]:
        """Those of a collection whose field `by` is exactly `name`: databases may compare without regard to case."""
        predicate = {"key": by, "operation": "EQUALS", "string_value": name}
        query |= {"filter": json.dumps({"predicates": [predicate]}), "page_size": str(_PAGE)}
        return [one for one in self._pages(path, key, query) if one.get(by, one.get("display_name")) == name]

    def _pages(self, path: str, key: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            answer = self.get(path, **query, **({"page_token": token} if token else {}))
            yield from answer.get(key, ())
            token = answer.get("next_page_token", "")
            if not token:
                return

    def create(self, look: Callable[[], dict[str, Any] | None], path: str, **send: Any) -> tuple[dict[str, Any], bool]:
        """What `look` finds, or else what a POST makes; whether it was made here.

        A POST that broke off may have been carried out. So each is preceded by a look, and so is every further try.
        """

        def once() -> tuple[dict[str, Any], bool]:
            found = look()
            if found is not None:
                return found, False
            try:
                return self._once("POST", path, **send), True
            except AnswerError as error:
                found = look() if error.status == 409 else None  # another was quicker, or the broken try went through
                if found is None:
                    raise
                return found, False

        return self._persist(once)

    def _persist(self, attempt: Callable[[], Any]) -> Any:
        pause = self.options.pause_s
        for left in reversed(range(self.options.tries)):
            try:
                return attempt()
            except _PassingError as error:
                if not left:
                    raise errors.WorkError(f"{error} ({self.options.tries} tries); try again later") from error
                time.sleep(min(max(pause, error.after_s), _LONGEST_PAUSE_S))
                pause *= 2
        raise AssertionError("tries must be positive")

    def _once(self, method: str, path: str, query: dict[str, str] | None = None, **send: Any) -> dict[str, Any]:
        where = f"{self._base}{_API}{path}"
        send |= {"params": query, "timeout": self.options.timeout_s, "allow_redirects": False}
        try:
            # Given with the session, a file of certificates would yield to REQUESTS_CA_BUNDLE.
            answer = self._session.request(method, where, verify=self.options.ca or None, **send)
        except requests.exceptions.SSLError as error:
            raise errors.WorkError(
                f"{self._base}: its certificate is not trusted ({_root(error)}); "
                "give the certificate of who signed it with --ca"
            ) from error
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise _PassingError(f"{self._base} does not answer: {_root(error)}") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _PassingError(f"{self._base} broke off its answer: {_root(error)}") from error
        except OSError as error:  # all of requests' own are; and a file of certificates that cannot be read
            raise errors.WorkError(f"{self._base}: {_root(error)}") from error
        if answer.status_code in _TRY_AGAIN:
            after = answer.headers.get("Retry-After", "")
            raise _PassingError(_said(answer, where), float(after) if after.isdecimal() else 0.0)
        return self._read(answer, where)

    def _read(self, answer: requests.Response, where: str) -> dict[str, Any]:
        if not answer.ok or answer.is_redirect:
            raise AnswerError(f"{_said(answer, where)}{self._advice(answer.status_code)}", answer.status_code)
        try:
            parsed = answer.json()
        except requests.exceptions.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise AnswerError(
                f"{where} answered with {answer.headers.get('Content-Type', 'something')} that is no JSON object; "
                "give as --endpoint what stands before /apis/v2beta1",
                answer.status_code,
            )
        return parsed

    def _advice(self, status: int) -> str:
        if status == 401 or 300 <= status < 400:
            held = "is not accepted or has run out" if self.options.token else "is not set"
            return f"; {TOKEN_VARIABLE} {held}: put a token there"
        if status == 403:
            return "; whom the token belongs to may not do this: name another --namespace, or ask for the right"
        return ""


def _said(answer: requests.Response, where: str) -> str:
    """One line of what the server had to say: gRPC's status as JSON, the upload's own form, or plain text."""
    try:
        body = answer.json()
        words = str(body.get("message") or body.get("error_message") or "")
    except (requests.exceptions.JSONDecodeError, AttributeError):
        words = "" if "html" in answer.headers.get("Content-Type", "") else answer.text
    words = " ".join(words.split())[:300]
    return f"{answer.request.method} {where.partition('?')[0]}: {answer.status_code} {answer.reason}" + (
        f" ({words})" if words else ""
    )


def _root(error: BaseException) -> str:
    """The innermost reason: what stands around it repeats the address."""
    while True:
        inside = [getattr(error, "reason", None), *error.args, error.__cause__]
        inner = next((one for one in inside if isinstance(one, BaseException)), None)
        if inner is None:
            return " ".join(str(getattr(error, "strerror", None) or error).split())
        error = inner

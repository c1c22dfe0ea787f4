"""Who may ask: bearer tokens from a file or the environment, the same over gRPC and REST."""

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Iterable
from collections.abc import Mapping

import grpc

from longtail.models import errors
from longtail.serving import token_file
from longtail.serving.model_server import metrics
from longtail.serving.model_server.config import tls as tls_lib
from longtail.serving.model_server.runtime import request_errors

log = logging.getLogger("longtail")

VARIABLE = "LONGTAIL_SERVE_TOKENS"  # blanks or line ends between them
POLL_S = 1.0  # between two looks whether the file has changed

_SCHEME = b"bearer"
_SHORTEST = 16  # characters; what is shorter can be guessed


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _digests(tokens: Iterable[str], where: str) -> list[bytes]:
    digests = []
    for number, token in enumerate(tokens, 1):
        if len(token) < _SHORTEST or not (token.isascii() and token.isprintable()):
            raise errors.UsageError(
                f"{where}: token {number} is not {_SHORTEST} or more printable ASCII characters; make one with "
                "`openssl rand -hex 32`"
            )
        digests.append(_digest(token.encode()))
    if not digests:
        raise errors.UsageError(f"{where} holds no token; make one with `openssl rand -hex 32`")
    return digests


class Tokens:
    """Lets those in who bring one of the tokens: of the file `path`, which may change, or of the environment.

    Raises:
      UsageError: there is no token, one is too short, or the file is not as `token_file.read` wants it.
    """

    def __init__(self, path: str, environ: Mapping[str, str]):
        self._path = path
        if path:
            self._digests = self._read()
        else:
            self._digests = _digests(environ[VARIABLE].split(), f"environment variable {VARIABLE}")

    def _read(self) -> list[bytes]:
        return _digests(token_file.read(self._path), f"token file {self._path}")

    def poll(self) -> None:
        """Takes up a changed file. UsageError where that is no good; the tokens before it stay."""
        found = self._read()
        if found != self._digests:
            self._digests = found
            log.info("token file %s: read again, %d tokens", self._path, len(found))

    def check(self, authorization: str | bytes | None) -> None:
        """Lets a request in by its header of that name, or raises UNAUTHENTICATED."""
        given = authorization.encode(errors="replace") if isinstance(authorization, str) else authorization or b""
        scheme, _, token = given.partition(b" ")
        digest = _digest(token.strip())
        # All of them are compared, whichever fits, so that the time taken tells nothing.
        known = sum([hmac.compare_digest(digest, other) for other in self._digests])
        if scheme.lower() == _SCHEME and known:
            return
        metrics.refused("unauthenticated")
        raise request_errors.RequestError(
            grpc.StatusCode.UNAUTHENTICATED, "A bearer token is needed: send the header authorization: Bearer TOKEN"
        )


def tokens(path: str, environ: Mapping[str, str]) -> Tokens | None:
    """What a server checks requests with: the tokens of the file, else of the environment; None lets everyone in."""
    return Tokens(path, environ) if path or VARIABLE in environ else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warn_if_open(host: str, asked: Tokens | None, tls: tls_lib.Server | None) -> None:
    """Says in one line who gets in from other machines, where that may not be meant."""
    if _is_loopback(host):
        return
    if asked is None and (tls is None or tls.client_ca is None):
        log.warning(
            "whoever reaches %s may ask this server; let in only who has a token (--token-file) or a certificate "
            "(--tls-client-ca), or listen on 127.0.0.1",
            host,
        )
    elif tls is None:
        log.warning("tokens and requests pass %s in clear; give a --tls-certificate and its --tls-key", host)

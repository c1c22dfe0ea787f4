"""How a client reaches a server: in clear, or by TLS; with a certificate and a token of its own where it has them."""

import dataclasses
import logging
from collections.abc import Mapping

import grpc

from longtail.models import errors
from longtail.serving import token_file

log = logging.getLogger("longtail")

VARIABLE = "LONGTAIL_TOKEN"

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclasses.dataclass(frozen=True)
class Security:
    """What a client proves itself with, and what it asks of the server.

    Attributes:
      root_ca: PEM file of the CAs of which the server's certificate must be; empty speaks in clear.
      certificate: PEM file of the client's own certificate, for servers that ask for one; none where empty.
      key: PEM file of its key.
      token: bearer token; none where empty.
    """

    root_ca: str = ""
    certificate: str = ""
    key: str = ""
    token: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise errors.UsageError("a client's certificate and its key go together; name both")
        if self.certificate and not self.root_ca:
            raise errors.UsageError("a client's certificate is for TLS; name the CA of the server's certificate too")

    def credentials(self) -> grpc.ChannelCredentials:
        """What TLS needs.

        Raises:
          UsageError: a file cannot be read.
        """
        names = {"root_ca": self.root_ca, "certificate": self.certificate, "key": self.key}
        pems = {name: _read(path) if path else None for name, path in names.items()}
        return grpc.ssl_channel_credentials(pems["root_ca"], pems["key"], pems["certificate"])

    def metadata(self) -> list[tuple[str, str]]:
        """What goes with each call."""
        return [("authorization", f"Bearer {self.token}")] if self.token else []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise errors.UsageError(f"{path} cannot be read: {error.strerror}") from error


def token(path: str, environ: Mapping[str, str]) -> str:
    """The first token in a file, else the environment's; empty where there is none.

    Raises:
      UsageError: the file cannot be read, is open to others, or has no token.
    """
    if not path:
        return environ.get(VARIABLE, "").strip()
    found = token_file.read(path)
    if not found:
        raise errors.UsageError(f"token file {path} holds no token")
    return found[0]


def channel(server: str, security: Security) -> grpc.Channel:
    """A connection to `server`, HOST:PORT.

    Raises:
      UsageError: it is not HOST:PORT, or a file of `security` cannot be read.
    """
    host, colon, port = server.rpartition(":")
    if not (host and colon and port.isdecimal()) or "/" in server:
        raise errors.UsageError(f"a server is named HOST:PORT, for example localhost:8500. Received: {server}")
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if host in _LOOPBACK:
        options.append(("grpc.enable_http_proxy", 0))  # a proxy would look for the server on its own machine
    if security.root_ca:
        return grpc.secure_channel(server, security.credentials(), options=options)
    if security.token and host not in _LOOPBACK:
        log.warning("the token goes to %s in clear; name the CA of the server's certificate for TLS", server)
    return grpc.insecure_channel(server, options=options)

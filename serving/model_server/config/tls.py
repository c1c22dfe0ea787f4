"""The server's certificate, its key, and whose clients it lets in: one for gRPC and REST alike."""

import dataclasses
import os
import ssl
import tempfile

import grpc

from longtail.models import errors


@dataclasses.dataclass(frozen=True)
class Server:
    """What the server proves itself with. TLS 1.2 is the oldest it speaks.

    Attributes:
      certificate: PEM, the server's own certificate first, then those that lead to its CA.
      key: PEM, not encrypted.
      client_ca: PEM; where given, a client without a certificate of this CA is refused. None asks for none.
      names: what to call the three in errors.

    Raises:
      UsageError: one of them is not what it should be, or the key is another certificate's.
    """

    certificate: bytes = dataclasses.field(repr=False)
    key: bytes = dataclasses.field(repr=False)
    client_ca: bytes | None = dataclasses.field(default=None, repr=False)
    names: tuple[str, str, str] = ("TLS certificate", "TLS key", "TLS client CA")

    def __post_init__(self) -> None:
        self.ssl_context()

    def ssl_context(self) -> ssl.SSLContext:
        """For REST."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        _check_certificates(self.certificate, self.names[0])
        self._load(context)
        if self.client_ca is not None:
            _check_certificates(self.client_ca, self.names[2])
            context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        with tempfile.TemporaryDirectory() as folder:  # ssl reads files only; nobody else may enter this folder
            files = [os.path.join(folder, name) for name in ("certificate", "key")]
            for file, pem in zip(files, (self.certificate, self.key), strict=True):
                with open(file, "wb") as opened:
                    opened.write(pem)
            try:
                # An encrypted key is no reason to ask the terminal.
                context.load_cert_chain(files[0], files[1], password="")
            except (ssl.SSLError, ValueError) as error:
                if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                    raise errors.UsageError(f"{self.names[1]} is not the key of {self.names[0]}") from error
                raise errors.UsageError(f"{self.names[1]} is no private key in PEM, or is encrypted") from error

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For gRPC, whose own oldest TLS is 1.2 too."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.client_ca, require_client_auth=self.client_ca is not None
        )


def _check_certificates(pem: bytes, name: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise errors.UsageError(f"{name} is no certificate in PEM") from error


def _read(path: str, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise errors.UsageError(f"{name} cannot be read: {error.strerror}") from error


def read(certificate: str, key: str, client_ca: str = "") -> Server | None:
    """What stands in these files, None where none is named.

    Raises:
      UsageError: one is missing, cannot be read, or is not what it should be.
    """
    if not (certificate or key or client_ca):
        return None
    if not (certificate and key):
        raise errors.UsageError("TLS needs both a certificate and its key; name the one that is missing")
    names = (f"TLS certificate {certificate}", f"TLS key {key}", f"TLS client CA {client_ca}")
    return Server(
        _read(certificate, names[0]),
        _read(key, names[1]),
        _read(client_ca, names[2]) if client_ca else None,
        names,
    )

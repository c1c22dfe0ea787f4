"""Certificates are checked when the server starts, and one line says what is wrong with them."""

import ssl

import pytest
import trustme

from longtail.models import errors
from longtail.serving.model_server.config import tls

CA = trustme.CA()
CERTIFICATE = CA.issue_cert("localhost", "127.0.0.1")


def pem(certificate):
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


@pytest.fixture
def files(tmp_path):
    """Paths of a certificate, its key and the CA."""
    found = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "ca")}
    found["certificate"].write_bytes(pem(CERTIFICATE))
    found["key"].write_bytes(CERTIFICATE.private_key_pem.bytes())
    found["ca"].write_bytes(CA.cert_pem.bytes())
    return {name: str(path) for name, path in found.items()}


def test_no_files_are_no_tls():
    assert tls.read("", "") is None


def test_a_certificate_and_its_key_ask_clients_for_nothing(files):
    context = tls.read(files["certificate"], files["key"]).ssl_context()
    assert context.verify_mode == ssl.CERT_NONE and context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_client_ca_asks_clients_for_a_certificate(files):
    assert tls.read(files["certificate"], files["key"], files["ca"]).ssl_context().verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize("given", [("certificate", ""), ("", "key"), ("", "", "ca")])
def test_half_of_it_is_refused(files, given):
    with pytest.raises(errors.UsageError, match="needs both a certificate and its key"):
        tls.read(*(files.get(name, "") for name in given))


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_missing_file_is_named(files, missing):
    given = [files["certificate"], files["key"], files["ca"]]
    given[missing] = "/nowhere/x.pem"
    with pytest.raises(errors.UsageError, match="/nowhere/x.pem cannot be read: No such file"):
        tls.read(*given)


def test_a_key_of_another_certificate_is_refused(files, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(CA.issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(errors.UsageError, match="other.pem is not the key of TLS certificate .*certificate.pem"):
        tls.read(files["certificate"], str(other))


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "said"),
    [
        (b"", CERTIFICATE.private_key_pem.bytes(), None, "TLS certificate is no certificate in PEM"),
        (b"\xff", CERTIFICATE.private_key_pem.bytes(), None, "TLS certificate is no certificate in PEM"),
        (pem(CERTIFICATE), b"", None, "TLS key is no private key in PEM"),
        (pem(CERTIFICATE), pem(CERTIFICATE), None, "TLS key is no private key in PEM"),
        (pem(CERTIFICATE), CERTIFICATE.private_key_pem.bytes(), b"x", "TLS client CA is no certificate in PEM"),
    ],
)
def test_what_is_no_pem_is_refused(certificate, key, ca, said):
    with pytest.raises(errors.UsageError, match=said):
        tls.Server(certificate, key, ca)


def test_an_encrypted_key_is_refused_without_asking_for_its_password():
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(CERTIFICATE.private_key_pem.bytes(), None)
    kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    locked = key.private_bytes(*kind, serialization.BestAvailableEncryption(b"secret"))
    with pytest.raises(errors.UsageError, match="or is encrypted"):
        tls.Server(pem(CERTIFICATE), locked)


def test_the_key_is_not_shown():
    assert b"PRIVATE" not in repr(tls.Server(pem(CERTIFICATE), CERTIFICATE.private_key_pem.bytes())).encode()

"""A server with tokens or mutual TLS answers none but those who prove themselves, on every surface but health."""

import base64
import contextlib
import dataclasses
import ssl

import grpc
import httpx
import pytest
import trustme
import typer.testing
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.models import errors
from longtail.serving import client
from longtail.serving import security
from longtail.serving.model_server import metrics
from longtail.serving.model_server import server as server_lib
from longtail.serving.model_server.config import auth
from longtail.serving.model_server.config import tls
from longtail.serving.model_server.rest import application as rest
from tests.serving import conftest

CA, OTHER_CA = trustme.CA(), trustme.CA()
TOKEN = "a-token-of-this-test-0123456789"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def pem(certificate):
    return b"".join(blob.bytes() for blob in certificate.cert_chain_pems)


@dataclasses.dataclass
class Files:
    """Paths of what a client needs."""

    ca: str
    certificate: str
    key: str
    stranger: str
    stranger_key: str
    token: str


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    mine, strangers = CA.issue_cert("client"), OTHER_CA.issue_cert("client")
    written = {
        "ca": CA.cert_pem.bytes(),
        "certificate": pem(mine),
        "key": mine.private_key_pem.bytes(),
        "stranger": pem(strangers),
        "stranger_key": strangers.private_key_pem.bytes(),
        "token": TOKEN.encode(),
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return Files(**{name: str(folder / name) for name in written})


@pytest.fixture(scope="module")
def server(tiny_saved_model, files):
    """A server that asks for a certificate and a token."""
    certificate = CA.issue_cert("localhost", "127.0.0.1")
    proof = tls.Server(pem(certificate), certificate.private_key_pem.bytes(), CA.cert_pem.bytes())
    options = server_lib.Options(
        str(tiny_saved_model), grpc_port=0, rest_port=0, poll_s=0, tls=proof, token_file=files.token
    )
    with server_lib.ModelServer(options) as running:
        yield running


@pytest.fixture(scope="module")
def in_clear(tiny_saved_model, files):
    """A server that asks for a token only."""
    options = server_lib.Options(str(tiny_saved_model), grpc_port=0, rest_port=0, poll_s=0, token_file=files.token)
    with server_lib.ModelServer(options) as running:
        yield running


def asks(server, files, certificate=True, token=TOKEN):
    """Embeds an image with what is given."""
    proof = security.Security(files.ca, *((files.certificate, files.key) if certificate else ("", "")), token)
    with client.Client(server.grpc_address, "tiny", 20.0, security=proof) as opened:
        return opened.embed([conftest.encode(0)]).status.tolist()


def https(server, files, certificate=True, ca=None):
    context = ssl.create_default_context(cafile=ca or files.ca)
    if certificate:
        context.load_cert_chain(files.certificate, files.key)
    return httpx.Client(base_url=f"https://{server.rest_address}", verify=context, trust_env=False, timeout=60)


def test_a_client_with_certificate_and_token_is_answered(server, files):
    assert asks(server, files) == [0]
    body = {"instances": [{"b64": base64.b64encode(conftest.encode(0)).decode()}]}
    with https(server, files) as opened:
        rows = opened.post("/v1/models/tiny:predict", json=body, headers=BEARER).json()["predictions"]
    assert rows[0]["status"] == 0


def test_without_a_certificate_nobody_gets_so_far_as_the_token(server, files):
    with pytest.raises(errors.WorkError):
        asks(server, files, certificate=False)
    with https(server, files, certificate=False) as opened, pytest.raises(httpx.TransportError):
        opened.get(rest.LIVE)


def test_a_certificate_of_another_authority_is_refused(server, files):
    proof = security.Security(files.ca, files.stranger, files.stranger_key, TOKEN)
    with client.Client(server.grpc_address, "tiny", 20.0, security=proof) as opened, pytest.raises(errors.WorkError):
        opened.embed([b"a"])


def test_a_server_of_another_authority_is_not_talked_to(server, files, tmp_path):
    (tmp_path / "ca").write_bytes(OTHER_CA.cert_pem.bytes())
    proof = security.Security(str(tmp_path / "ca"), token=TOKEN)
    with client.Client(server.grpc_address, "tiny", 20.0, security=proof) as opened, pytest.raises(errors.WorkError):
        opened.embed([b"a"])


def test_tls_older_than_1_2_is_refused(server, files):
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    url = f"https://{server.rest_address}{rest.LIVE}"
    with httpx.Client(verify=context, trust_env=False) as opened, pytest.raises(httpx.TransportError):
        opened.get(url)


@pytest.mark.parametrize("token", ["", "another-token-0123456789"])
def test_without_the_token_the_client_says_what_to_bring(server, files, token):
    with pytest.raises(errors.UsageError, match="bring a token it takes"):
        asks(server, files, token=token)


@pytest.fixture
def channel(in_clear):
    with grpc.insecure_channel(in_clear.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


def prediction(name):
    return lambda channel: getattr(prediction_service_pb2_grpc.PredictionServiceStub(channel), name)


def model(name):
    return lambda channel: getattr(model_service_pb2_grpc.ModelServiceStub(channel), name)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (prediction("Predict"), predict_pb2.PredictRequest()),
        (prediction("GetModelMetadata"), get_model_metadata_pb2.GetModelMetadataRequest()),
        (model("GetModelStatus"), get_model_status_pb2.GetModelStatusRequest()),
        (model("HandleReloadConfigRequest"), model_management_pb2.ReloadConfigRequest()),
    ],
)
def test_every_grpc_method_asks_for_the_token(channel, method, request_):
    for metadata in ([], [("authorization", "Bearer wrong-token-0123456789")]):
        with pytest.raises(grpc.RpcError) as raised:
            method(channel)(request_, metadata=metadata)
        assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as raised:
        method(channel)(request_, metadata=[("authorization", f"Bearer {TOKEN}")])
    assert raised.value.code() != grpc.StatusCode.UNAUTHENTICATED


def test_methods_that_are_not_there_ask_for_the_token_or_are_not_there(channel):
    for name in ("/tensorflow.serving.PredictionService/Classify", "/nowhere.Service/Method"):
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(name)(b"")
        assert raised.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)


def test_reflection_asks_for_the_token(channel):
    method = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as raised:
        list(method(iter([b""])))
    assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_over_grpc_needs_no_token(channel):
    reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/tiny:predict"),
        ("POST", "/v1/models/tiny:classify"),
        ("GET", "/v1/models/tiny"),
        ("GET", "/v1/models/tiny/metadata"),
        ("POST", "/v1/gallery:identify"),
        ("POST", "/v1/gallery:verify"),
        ("OPTIONS", "/v1/models/tiny:predict"),
        ("GET", metrics.PATH),
        ("GET", "/"),
        ("GET", "/healthz/"),
        ("GET", "//healthz"),
        ("POST", "/healthz/../v1/models/tiny:predict"),
    ],
)
def test_every_path_of_rest_asks_for_the_token(in_clear, method, path):
    with httpx.Client(trust_env=False) as opened:
        url = f"http://{in_clear.rest_address}{path}"
        for headers in ({}, {"authorization": "Bearer wrong-token-0123456789"}):
            reply = opened.request(method, url, headers=headers)
            assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert opened.request(method, url, headers=BEARER).status_code != 401


@pytest.mark.parametrize("path", [rest.LIVE, rest.READY])
def test_health_over_rest_needs_no_token(in_clear, path):
    assert httpx.get(f"http://{in_clear.rest_address}{path}", trust_env=False).status_code == 200


def test_the_commands_bring_what_they_are_given(server, files, tmp_path):
    from longtail.pipeline.cli import app as cli

    image = tmp_path / "a.png"
    image.write_bytes(conftest.encode(0))
    given = ["embed", str(image), "--server", server.grpc_address, "--model-name", "tiny", "--root-ca", files.ca]
    given += ["--certificate", files.certificate, "--key", files.key]
    runner = typer.testing.CliRunner()
    assert runner.invoke(cli.app, [*given, "--token-file", files.token]).exit_code == 0
    assert runner.invoke(cli.app, given, env={security.VARIABLE: TOKEN}).exit_code == 0
    refused = runner.invoke(cli.app, given)
    assert refused.exit_code != 0 and TOKEN not in refused.output


@pytest.mark.parametrize("given", [{"certificate": "c"}, {"key": "k"}, {"certificate": "c", "key": "k"}])
def test_half_of_what_tls_needs_is_bad_usage(given):
    with pytest.raises(errors.UsageError, match="name"):
        security.Security(**given)


def test_a_file_that_is_not_there_is_bad_usage():
    with pytest.raises(errors.UsageError, match="/nowhere/ca cannot be read"):
        client.Client("localhost:1", "tiny", security=security.Security("/nowhere/ca"))


def test_a_token_in_clear_to_another_machine_is_warned_of(caplog):
    for server, said in (("localhost:1", ""), ("192.0.2.1:1", "the token goes to 192.0.2.1:1 in clear")):
        with contextlib.closing(security.channel(server, security.Security(token=TOKEN))):
            assert said in caplog.text and TOKEN not in caplog.text and bool(caplog.text) == bool(said)


def test_the_first_token_of_a_file_is_brought(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# mine\nfirst-token\nsecond-token\n")
    path.chmod(0o600)
    assert security.token(str(path), {security.VARIABLE: "third"}) == "first-token"
    assert security.token("", {security.VARIABLE: " third\n"}) == "third" and security.token("", {}) == ""
    path.write_text("\n")
    with pytest.raises(errors.UsageError, match="holds no token"):
        security.token(str(path), {})


def test_the_servers_variable_is_not_the_clients():
    assert auth.VARIABLE != security.VARIABLE

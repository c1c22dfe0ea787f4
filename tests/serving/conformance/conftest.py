"""The server under test: ours, started here, or a TensorFlow Serving whose address the environment says.

LONGTAIL_TF_SERVING=HOST:PORT[,HOST:RESTPORT] names one that serves what model_zoo wrote; REST is at port 8501 of the
same host unless it is said.
"""

import dataclasses
import os

import grpc
import httpx
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from longtail.serving.model_server import server as server_lib
from tests.serving.conformance import model_zoo


@dataclasses.dataclass(frozen=True)
class Served:
    """Where a server is, and what it was told to serve."""

    grpc: str
    rest: str
    config: model_server_config_pb2.ModelServerConfig


def _config(folder: str) -> model_server_config_pb2.ModelServerConfig:
    text = model_zoo.CONFIG.replace(model_zoo.MOUNTED, folder)
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The server under test."""
    named = os.environ.get("LONGTAIL_TF_SERVING", "")
    if named:
        at, _, rest = named.partition(",")
        yield Served(at, rest or f"{at.rpartition(':')[0]}:8501", _config(model_zoo.MOUNTED))
        return
    folder = tmp_path_factory.mktemp("zoo")
    model_zoo.write(str(folder))
    config = _config(str(folder))
    (folder / "models.config").write_text(text_format.MessageToString(config))
    options = server_lib.Options(
        model_config=str(folder / "models.config"), grpc_port=0, rest_port=0, labels_before_versions=True
    )
    with server_lib.ModelServer(options) as server:
        yield Served(server.grpc_address, server.rest_address, config)


@pytest.fixture(scope="session")
def channel(served):
    """A gRPC channel to it."""
    with grpc.insecure_channel(served.grpc, options=[("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


@pytest.fixture(scope="session")
def predictions(channel):
    """A stub of PredictionService."""
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="session")
def models(channel):
    """A stub of ModelService."""
    return model_service_pb2_grpc.ModelServiceStub(channel)


@pytest.fixture(scope="session")
def rest(served):
    """An HTTP client whose paths are the server's."""
    with httpx.Client(base_url=f"http://{served.rest}", trust_env=False, timeout=60) as opened:
        yield opened

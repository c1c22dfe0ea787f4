"""What tests of `longtail submit` share: a compiled pipeline, a server that answers as Kubeflow's, the command."""

import pytest
import yaml
from typer import testing

from longtail.pipeline.cli import app as cli
from longtail.pipeline.kubeflow.submit import kfp_api
from tests.pipeline.kubeflow.submit import kfp_server

TOKEN = "a.token-of_mine"
SPEC = {
    "pipelineInfo": {"name": "glyphs"},
    "schemaVersion": "2.1.0",
    "defaultPipelineRoot": "gs://b/longtail",
    "deploymentSpec": {"executors": {"exec-one": {"container": {"image": "longtail:1", "command": ["true"]}}}},
    "components": {"comp-one": {"executorLabel": "exec-one"}},
    "root": {
        "dag": {"tasks": {"one": {"taskInfo": {"name": "one"}, "componentRef": {"name": "comp-one"}}}},
        "inputDefinitions": {
            "parameters": {
                "data": {"parameterType": "STRING"},
                "span": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1},
                "rate": {"parameterType": "NUMBER_DOUBLE", "defaultValue": 0.1},
                "mirror": {"parameterType": "BOOLEAN", "defaultValue": False},
                "image": {"parameterType": "LIST", "defaultValue": []},
            }
        },
    },
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(SPEC))
    return str(path)


@pytest.fixture
def kfp():
    return kfp_server.Kfp(TOKEN)


@pytest.fixture
def server(kfp):
    with kfp_server.Server(kfp) as running:
        yield running


@pytest.fixture
def command(file, monkeypatch):
    monkeypatch.setenv(kfp_api.TOKEN_VARIABLE, TOKEN)

    def run(*words, parameters=("--param", "data=gs://b/images")):
        return testing.CliRunner().invoke(cli.app, ["submit", file, *parameters, *words], catch_exceptions=True)

    return run

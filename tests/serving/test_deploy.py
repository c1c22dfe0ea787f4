"""What deploy/tf_serving/ starts TensorFlow Serving with starts the embedded server as well, flag by flag."""

import pathlib
import re
import signal
import subprocess

import pytest
import tensorflow as tf
import yaml
from typer import testing

from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import serve
from longtail.serving import client
from tests.serving import conftest

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "tf_serving"


@pytest.fixture
def service():
    """The container as compose.yaml has it."""
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["tf_serving"]


@pytest.fixture
def mounted(service, tmp_path):
    """Flags of the container, their paths those of copies here: of the files, and of a models folder with two versions.

    Only where a container sees them is changed in the files.
    """
    config = tmp_path / "config"
    config.mkdir()
    for file in DEPLOY.glob("*.config"):
        (config / file.name).write_text(file.read_text().replace('"/models/', f'"{tmp_path}/models/'))
    defaults = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", flag) for flag in service["command"]]
    return [flag.replace("=/config/", f"={config}/") for flag in defaults]


def test_the_embedded_server_serves_with_the_flags_and_files_of_the_container(
    mounted, tiny_saved_model, tmp_path, monkeypatch
):
    folder = tmp_path / "models" / "glyphs"
    folder.mkdir(parents=True)
    for version in (1, 2):
        conftest.push(tiny_saved_model / "1", folder, version)
    answered = []

    def ask(line):
        with client.Client(line.partition("gRPC ")[2].partition(",")[0], "glyphs") as opened:
            answered.append(opened.embed([conftest.encode(0)]).model_version)
            answered.append({entry.version: entry.state for entry in opened.status()})
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(serve.typer, "echo", ask)
    command = ["serve", *mounted, "--port=0", "--rest_api_port=0"]
    assert testing.CliRunner().invoke(cli.app, command, catch_exceptions=False).exit_code == 0
    assert answered == [2, {1: "AVAILABLE", 2: "AVAILABLE"}]


def test_every_file_the_container_is_given_is_there_and_read_only(service):
    for volume in service["volumes"]:
        source, _, mode = volume.rsplit(":", 2)
        assert mode == "ro"
        name = source.removeprefix("${CONFIG:-").removesuffix("}")
        assert name.startswith("${MODELS:") or (DEPLOY / name).is_file(), volume
    assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_the_image_is_pinned_to_the_tensorflow_that_exports_the_models(service):
    assert service["image"] == f"tensorflow/serving:{tf.__version__}"


def test_only_this_machine_reaches_the_ports(service):
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_health_check_fails_where_nobody_listens(service):
    command = [word.replace("8501", "1") for word in service["healthcheck"]["test"][1:]]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode != 0

"""A running server follows its config file, and goes on as it was where the file cannot be followed."""

import pytest

from longtail.models import errors
from longtail.serving.model_server.config import model_file as config_watcher
from longtail.serving.model_server.runtime import models as models_lib


class Config:
    """A file of models and the server that follows it."""

    def __init__(self, path):
        self.path = path
        self.models = models_lib.Models()
        self.file = config_watcher.ConfigFile(str(path), self.models)

    def write(self, *names, more=""):
        models = "".join(
            f'config {{ name: "{name}" base_path: "{self.path.parent / name}" model_platform: "tensorflow" {more} }}\n'
            for name in names
        )
        self.path.write_text(f"model_config_list {{ {models} }}")

    def start(self, *names):
        self.write(*names)
        self.models.reload(self.file.load())


@pytest.fixture
def config(tmp_path, push_affine):
    """A server of model a; there is a model b too."""
    push_affine("a", 1)
    push_affine("b", 1)
    found = Config(tmp_path / "models.config")
    found.start("a")
    return found


def test_a_model_that_comes_into_the_file_serves(config):
    config.write("a", "b")
    config.file.poll()
    assert set(config.models.names()) == {"a", "b"} and config.models.get("b").version == 1


def test_a_file_that_has_not_changed_is_not_taken_up_again(config, caplog):
    caplog.set_level("INFO", "longtail")
    config.file.poll()
    assert "taken up" not in caplog.text


@pytest.mark.parametrize("text", ["model_config_list {", "custom_model_config {}", "model_config_list { config {} }"])
def test_a_file_that_cannot_be_is_told_and_the_models_serve_on(config, text):
    config.path.write_text(text)
    with pytest.raises(errors.UsageError, match="--model_config_file .*models.config"):
        config.file.poll()
    assert list(config.models.names()) == ["a"] and config.models.get("a").version == 1


def test_a_file_that_is_gone_for_a_while_is_taken_up_when_it_is_back(config):
    config.path.unlink()
    with pytest.raises(errors.UsageError, match="cannot be read"):
        config.file.poll()
    config.write("b")
    config.file.poll()
    assert list(config.models.names()) == ["b"]


def test_a_label_ahead_of_its_version_is_taken_up_when_that_serves(config, push_affine):
    config.write("a", more='version_labels { key: "next" value: 2 }')
    with pytest.raises(errors.UsageError, match="not currently available"):
        config.file.poll()
    push_affine("a", 2)
    config.models.poll()
    config.file.poll()
    assert config.models.get("a", label="next").version == 2

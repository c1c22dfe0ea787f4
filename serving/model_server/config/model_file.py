"""Keeps the models of a running server as a config file says, whenever the file changes."""

import logging

from tensorflow_serving.config import model_server_config_pb2

from longtail.models import errors
from longtail.serving.model_server.config import files as config_files
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors

log = logging.getLogger("longtail")


class ConfigFile:
    """The file `path` of a ModelServerConfig, which `models` follow."""

    def __init__(self, path: str, models: models_lib.Models):
        self._path = path
        self._models = models
        self._taken = ""  # the text that the models are as

    def load(self) -> model_server_config_pb2.ModelServerConfig:
        """What the file says now; UsageError where it cannot be read, or is no list of models."""
        text = config_files.read(self._path, config_files.MODELS)
        config = config_files.models(text, self._path)
        self._taken = text
        return config

    def poll(self) -> None:
        """Takes up what changed. UsageError where that cannot be: it may be later, as a label may be early."""
        text = config_files.read(self._path, config_files.MODELS)
        if text == self._taken:
            return
        try:
            self._models.reload(config_files.models(text, self._path))
        except request_errors.RequestError as error:
            raise errors.UsageError(f"{config_files.MODELS} {self._path}: {error.message}") from error
        self._taken = text
        log.info("%s %s: taken up, %d models", config_files.MODELS, self._path, len(self._models.names()))

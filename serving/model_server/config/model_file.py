"""Keeps the models of a running server as a config file says, whenever the file changes."""

import logging

from tensorflow_serving.config import model_server_config_pb2

from longtail.models import errors
from longtail.serving.model_server.config import files as config_files
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors

log = logging.getLogger("longtail")


class ConfigFile:
    """A file of ModelServerConfig.

    Args:
      path: the file.
      models: what follows it.
    """

    def __init__(self, path: str, models: models_lib.Models):
        self._path = path
        self._models = models
        self._taken = ""  # the text that the models are as
        self._said = ""

    def load(self) -> model_server_config_pb2.ModelServerConfig:
        """What the file says now.

        Raises:
          UsageError: it cannot be read, or is no list of models.
        """
        text = config_files.read(self._path, "--model_config_file")
        config = config_files.models(text, self._path)
        self._taken = text
        return config

    def poll(self) -> None:
        """Takes up what changed. What cannot be is told once and tried again, as a label's version may come yet."""
        try:
            text = config_files.read(self._path, "--model_config_file")
            if text == self._taken:
                return
            self._models.reload(config_files.models(text, self._path))
            self._taken = text
            self._said = ""
            log.info("--model_config_file %s: taken up, %d models", self._path, len(self._models.names()))
        except (errors.UsageError, request_errors.RequestError) as error:
            if str(error) != self._said:
                self._said = str(error)
                log.error("--model_config_file %s is not taken up: %s", self._path, error)

"""Answers "who is this": embeds images with the model that serves and searches the gallery beside it."""

import dataclasses
import logging
from typing import Any

import grpc

from models import signatures
from serving import errors
from serving import gallery as gallery_lib
from serving import versions
from serving.model_server import json_tensors
from serving.model_server import loader
from serving.model_server import request_errors
from serving.model_server import servable as servable_lib

_log = logging.getLogger("longtail")

DEFAULT_K = 5
_EMBEDDED = {signatures.EMBEDDING, signatures.STATUS}


def _signature(servable: servable_lib.Servable) -> servable_lib.Signature:
    signature = servable.signatures.get(signatures.SERVING)
    if (
        signature is None
        or set(signature.inputs) != {signatures.IMAGE_BYTES}
        or not set(signature.outputs) >= _EMBEDDED
    ):
        raise errors.UsageError(
            f"model {servable.name} version {servable.version} does not turn {signatures.IMAGE_BYTES} into "
            f"{signatures.EMBEDDING} and {signatures.STATUS}; a gallery needs a model that does"
        )
    return signature


class Retrieval:
    """A model and a gallery, each at its latest version.

    Args:
      source: the model, already serving.
      folder: the gallery's folder.

    Raises:
      UsageError: the gallery is broken, or its vectors are not of the model's length.
    """

    def __init__(self, source: loader.ModelSource, folder: str):
        self._source = source
        self._folder = folder
        self._gallery = self._load()
        self._tried = self._versions()

    def _versions(self) -> tuple[int, int]:
        """The latest gallery on disk and the model that serves: while neither changes, loading again is idle."""
        latest = next(iter(versions.find(self._folder)), self._gallery.version)
        return latest, self._source.get(self._source.name).version

    def _load(self) -> gallery_lib.Gallery:
        gallery = gallery_lib.load(self._folder)
        servable = self._source.get(self._source.name)
        dimension = _signature(servable).outputs[signatures.EMBEDDING].shape[-1]
        if dimension not in (None, gallery.dimension):
            raise errors.UsageError(
                f"gallery {gallery.path} holds {gallery.dimension}-d embeddings, model {servable.name} version "
                f"{servable.version} makes {dimension}-d ones; build the gallery with this model"
            )
        note = gallery.mismatch(servable.name, servable.version)
        if note:
            _log.warning("%s", note)
        return gallery

    def poll(self) -> None:
        """Takes up a new version of the gallery; a broken one is told once, and the old one answers on."""
        seen = self._versions()
        if seen == self._tried:
            return
        self._tried = seen
        try:
            self._gallery = self._load()
        except errors.UsageError as error:
            _log.error("%s", error)
        else:
            _log.info("gallery %s serves, %d images", self._gallery.path, self._gallery.count)

    def identify(self, document: dict[str, Any]) -> dict[str, Any]:
        """Answers {"instances": [{"b64": ...}, ...], "k": 5}.

        Returns:
          {"predictions": [{"status", "matches": [{"identity", "similarity", ...}]}], "model", "gallery", "note"},
          `matches` empty where `status` is not 0, `note` null unless another model built the gallery.

        Raises:
          RequestError: the request is not of this form, or the model failed.
        """
        k = document.get("k", DEFAULT_K)
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise request_errors.invalid(f"'k' must be a whole number of at least 1. Received: {k!r}")
        gallery, servable = self._gallery, self._source.get(self._source.name)
        wanted = {key: value for key, value in document.items() if key == "instances"}
        try:
            signature = _signature(servable)
            inputs, _ = json_tensors.inputs_of(wanted, signature.inputs)
            outputs = signature.run(inputs)
            found = gallery.identify(outputs[signatures.EMBEDDING], k)
        except errors.UsageError as error:  # the model has moved on to another kind; the gallery has not yet
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
        status = outputs[signatures.STATUS].tolist()
        return {
            "predictions": [
                {
                    "status": code,
                    "matches": [dataclasses.asdict(match) for match in matches] if code == signatures.STATUS_OK else [],
                }
                for code, matches in zip(status, found, strict=True)
            ],
            "model": {"name": servable.name, "version": servable.version},
            "gallery": {
                "version": gallery.version,
                "model_name": gallery.model_name,
                "model_version": gallery.model_version,
            },
            "note": gallery.mismatch(servable.name, servable.version),
        }

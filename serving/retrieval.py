"""Answers "who is this": embeds images with the version of the model that built the gallery, and searches it."""

import dataclasses
import logging
import os
import reprlib
from typing import Any

import grpc
import numpy as np

from longtail.models import errors
from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.serving import gallery as gallery_lib
from longtail.serving import similarity as similarity_lib
from longtail.serving import thresholds
from longtail.serving.model_server import request_log as request_log_lib
from longtail.serving.model_server.rest import json_requests
from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib

log = logging.getLogger("longtail")

DEFAULT_K = 5
_EMBEDDED = {signatures.EMBEDDING, signatures.STATUS}


def _signature(servable: servable_lib.Servable, gallery: gallery_lib.Gallery) -> servable_lib.Signature:
    """What embeds images as `gallery` was; UsageError where `servable` has no such thing."""
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
    dimension = signature.outputs[signatures.EMBEDDING].shape[-1]
    if dimension not in (None, gallery.dimension):
        raise errors.UsageError(
            f"gallery {gallery.path} holds {gallery.dimension}-d embeddings, model {servable.name} version "
            f"{servable.version} makes {dimension}-d ones; build the gallery with this model"
        )
    return signature


@dataclasses.dataclass(frozen=True)
class _Pair:
    """A gallery and the version that built it. Swapped as one, so that no query meets vectors of another version."""

    gallery: gallery_lib.Gallery
    servable: servable_lib.Servable
    signature: servable_lib.Signature


class Retrieval:
    """The latest gallery whose version of the model there is, and that version.

    Between a push and the gallery of the pushed version, the version before it is held for its gallery. A gallery
    whose version of the model is not there waits for it; the one before it answers on, if there is one.

    Args:
      source: the model, already serving.
      folder: the gallery's folder.
      request_log: keeps a sample of what was asked; None keeps nothing.
      first: the latest version of the gallery, where it is loaded already.

    Raises:
      UsageError: the gallery is broken, or its vectors are not of its model's length.
    """

    def __init__(
        self,
        source: loader.ModelSource,
        folder: str,
        request_log: request_log_lib.RequestLog | None = None,
        first: gallery_lib.Gallery | None = None,
    ):
        self._source = source
        self._folder = folder
        self._request_log = request_log
        self._pair: _Pair | None = None
        self._refusal = ""
        self._waiting: gallery_lib.Gallery | None = first or gallery_lib.load(folder)
        self._tried = self._waiting.version
        self._take_up(self._waiting)

    @property
    def refusal(self) -> str | None:
        """One line of why no query is answered; None where they are."""
        return None if self._pair is not None else self._refusal

    def poll(self) -> None:
        """Takes up a new version of the gallery; a broken one is told once, and the old one answers on.

        Call it from the thread that polls the model.
        """
        latest = next(iter(versions.find(self._folder)), self._tried)
        try:
            if latest != self._tried:
                self._tried = latest
                self._waiting = gallery_lib.load(self._folder)
            if self._waiting is not None:
                self._take_up(self._waiting)
        except errors.UsageError as error:
            log.error("%s", error)

    def _take_up(self, gallery: gallery_lib.Gallery) -> None:
        """Answers from `gallery` from now on, if the version that built it is there; else leaves it waiting."""
        servable = self._source.hold(gallery.model_version) if self._is_of_this_model(gallery) else None
        if servable is None:
            self._refuse(gallery)
            return
        self._waiting = None
        old = self._pair
        try:
            self._pair = _Pair(gallery, servable, _signature(servable, gallery))
        except errors.UsageError as error:
            self._refusal = str(error)
            self._release(servable, keep=old)
            raise
        if old is not None:
            self._release(old.servable, keep=self._pair)
        log.info("gallery %s serves, %d images, with version %d", gallery.path, gallery.count, gallery.model_version)

    def _is_of_this_model(self, gallery: gallery_lib.Gallery) -> bool:
        # Clients may call a model otherwise than its folder, after which the gallery calls it.
        return gallery.model_name in (self._source.name, os.path.basename(os.path.abspath(self._source.folder)))

    def _release(self, servable: servable_lib.Servable, keep: _Pair | None) -> None:
        if keep is None or keep.servable.version != servable.version:
            self._source.release(servable.version)

    def _refuse(self, gallery: gallery_lib.Gallery) -> None:
        name, serving = self._source.name, self._source.latest()
        latest = serving.version if serving is not None else "none"
        if self._is_of_this_model(gallery):
            mend = f"put version {gallery.model_version} back, or build the gallery of version {latest}"
        else:
            mend = f"build a gallery of {name}, or start with --model-name {gallery.model_name} if the two are one"
        line = (
            f"gallery {gallery.path} was built by model {gallery.model_name} version {gallery.model_version}, but here "
            f"is only {name} version {latest}, whose embeddings cannot be compared with it; {mend}"
        )
        if line != self._refusal:
            self._refusal = line
            log.error("%s", line)

    def identify(self, document: dict[str, Any]) -> dict[str, Any]:
        """Answers {"instances": [{"b64": ...}, ...], "k": 5}, and with "threshold" or "fmr" who it is, or nobody known.

        Returns:
          {"predictions": [{"status", "matches": [{"identity", "similarity", ...}]}], "model", "gallery"}, `matches`
          empty where `status` is not 0. `model` is the version that built the gallery, the latest or not. With a
          threshold, given or calibrated for a false match rate, that `threshold`, and in each prediction `answer`, see
          `gallery.Nearest.answer`; None where `status` is not 0.

        Raises:
          RequestError: the request is not of this form, the gallery has no such threshold, the model failed, or
            (FAILED_PRECONDITION) the version that built the gallery is not there.
        """
        k = document.get("k", DEFAULT_K)
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            shown = reprlib.repr(k)
            raise request_errors.invalid(f"'k' must be a whole number of at least 1. Received: {shown}")
        pair = self._serving()
        bar = _threshold(pair.gallery, document)
        embedding, status = self._embed(pair, document)
        try:
            found = pair.gallery.identify(embedding, k)
            nearest = pair.gallery.nearest(embedding) if bar else []
        except errors.UsageError as error:  # embeddings of a length the signature did not say, or not finite
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
        told = _answer(pair, status, found)
        if bar:
            for row, near in zip(told["predictions"], nearest, strict=True):
                row["answer"] = near.answer(bar.value) if row["status"] == signatures.STATUS_OK else None
            told["threshold"] = dataclasses.asdict(bar)
        return told

    def verify(self, document: dict[str, Any]) -> dict[str, Any]:
        """Answers {"instances": [{"b64": ...}, {"b64": ...}]} with "threshold" or "fmr": are both of one identity?

        Returns:
          {"status": [int, int], "verdict", "similarity", "threshold", "model", "gallery"}; `verdict` is "same",
          "different" or "undecided", and it and `similarity` are None where a status is not 0.

        Raises:
          RequestError: see `identify`.
        """
        pair = self._serving()
        bar = _threshold(pair.gallery, document)
        if bar is None:
            raise request_errors.invalid("'threshold' or 'fmr' must say from which similarity on two images are one's")
        instances = document.get("instances")
        if not isinstance(instances, list) or len(instances) != 2:
            raise request_errors.invalid("'instances' must be two images")
        (one, other), status = self._embed(pair, document)
        usable = status == [signatures.STATUS_OK] * 2
        try:
            similarity = similarity_lib.cosine(one, other) if usable else None
        except errors.UsageError as error:  # not finite
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, str(error)) from error
        return {
            "status": status,
            "verdict": bar.judge(similarity) if similarity is not None else None,
            "similarity": similarity,
            "threshold": dataclasses.asdict(bar),
            **_about(pair),
        }

    def _serving(self) -> _Pair:
        pair = self._pair
        if pair is None:
            raise request_errors.RequestError(grpc.StatusCode.FAILED_PRECONDITION, self._refusal)
        return pair

    def _embed(self, pair: _Pair, document: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
        """Embeddings and statuses of a request's images."""
        wanted = {key: value for key, value in document.items() if key == "instances"}
        inputs, _ = json_requests.inputs_of(wanted, pair.signature.inputs)
        outputs = _run(pair, inputs)
        if self._request_log is not None:
            self._request_log.offer(pair.servable, lambda: request_log_lib.of_tensors(signatures.SERVING, inputs))
        return outputs[signatures.EMBEDDING], outputs[signatures.STATUS].tolist()


def _threshold(gallery: gallery_lib.Gallery, document: dict[str, Any]) -> thresholds.Threshold | None:
    """The threshold that a request asks for; INVALID_ARGUMENT where there is no such one."""
    asked = {name: document[name] for name in ("threshold", "fmr") if name in document}
    if len(asked) == 2:
        raise request_errors.invalid("'threshold' and 'fmr' both say from which similarity on; give one of them")
    for name, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise request_errors.invalid(f"'{name}' must be a number. Received: {reprlib.repr(value)}")
    try:
        if "fmr" in asked:
            return thresholds.choose(gallery.thresholds, asked["fmr"], f"gallery {gallery.path}")
        return thresholds.given(asked["threshold"]) if asked else None
    except errors.UsageError as error:
        raise request_errors.invalid(str(error)) from error


def _run(pair: _Pair, inputs: dict[str, Any]) -> dict[str, Any]:
    if not pair.servable.acquire():
        raise request_errors.RequestError(
            grpc.StatusCode.FAILED_PRECONDITION, f"Model {pair.servable.name} of the gallery is not served any more"
        )
    try:
        return pair.signature.run(inputs)
    finally:
        pair.servable.release()


def _answer(pair: _Pair, status: list[int], found: list[list[gallery_lib.Match]]) -> dict[str, Any]:
    return {
        "predictions": [
            {
                "status": code,
                "matches": [dataclasses.asdict(match) for match in matches] if code == signatures.STATUS_OK else [],
            }
            for code, matches in zip(status, found, strict=True)
        ],
        **_about(pair),
    }


def _about(pair: _Pair) -> dict[str, Any]:
    gallery, servable = pair.gallery, pair.servable
    return {
        "model": {"name": servable.name, "version": servable.version},
        "gallery": {
            "version": gallery.version,
            "model_name": gallery.model_name,
            "model_version": gallery.model_version,
        },
    }

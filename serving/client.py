"""Talks to a model server over gRPC, to TF Serving and the embedded one alike."""

import dataclasses
import os
from collections.abc import Iterator
from collections.abc import Sequence
from types import TracebackType

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.models import config
from longtail.models import errors
from longtail.models import pictures
from longtail.models.export import signatures
from longtail.serving import security as security_lib

_IN_CLEAR = security_lib.Security()

# Encoded bytes of a path or the path itself.
Image = str | os.PathLike | bytes

_MAX_BATCH_BYTES = 32 << 20
_TRIES = 3  # of embedding all images by one version, while new ones are pushed


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What a server made of some images.

    Attributes:
      embedding: float32 [N, d], l2-normalised; zeros where the status is not 0.
      status: int32 [N], see `longtail.models.export.signatures.STATUS_MEANING`.
      model_version: the version that answered, the same for all.
    """

    embedding: np.ndarray
    status: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """What a server says of one version of a model.

    Attributes:
      version: its number.
      state: START, LOADING, AVAILABLE, UNLOADING or END.
      error: one line, empty where all is well.
    """

    version: int
    state: str
    error: str


class VersionNotServedError(errors.WorkError):
    """The server has the model, but not the version asked for.

    Attributes:
      available: the versions it answers with, latest first.
    """

    def __init__(self, message: str, available: list[int]):
        super().__init__(message)
        self.available = available


def _read(image: Image, most: int) -> bytes:
    """A file as found, or the bytes that were given. Raises UsageError where there is none that can be read."""
    if isinstance(image, bytes):
        return image
    path = os.fspath(image)
    if tf.io.gfile.isdir(path):
        raise errors.UsageError(f"image {path} is a folder; name the images in it")
    try:
        if "://" not in path:
            return pictures.read_file(path, most)
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(most)
    except (FileNotFoundError, tf.errors.NotFoundError) as error:
        raise errors.UsageError(f"image {path}: no such file") from error
    except pictures.BadImage as error:
        raise errors.UsageError(f"image {path}: {error}; name an image") from error
    except tf.errors.OpError as error:
        raise errors.UsageError(f"image {path} cannot be read: {error.message}") from error


class Client:
    """A connection to one model of a model server. Also a context manager, which closes it.

    Args:
      server: HOST:PORT of the server's gRPC side.
      model_name: as the server calls the model.
      timeout_s: longest wait for one answer, seconds.
      batch_size: images in one request, at most.
      security: TLS, and what the client proves itself with.
      max_pixels: larger images are not sent, and have the status of one that is too large.

    Raises:
      UsageError: `server` is not HOST:PORT, a number is below what makes sense, or a file of `security` cannot be read.
    """

    def __init__(
        self,
        server: str,
        model_name: str,
        timeout_s: float = 60.0,
        batch_size: int = 32,
        security: security_lib.Security = _IN_CLEAR,
        max_pixels: int = config.MAX_PIXELS,
    ):
        if batch_size < 1:
            raise errors.UsageError(f"the batch size must be at least 1. Received: {batch_size}")
        if not timeout_s > 0:
            raise errors.UsageError(f"the timeout must be above 0 seconds. Received: {timeout_s}")
        self.server = server
        self.model_name = model_name
        self._timeout_s = timeout_s
        self._batch_size = batch_size
        self._max_pixels = max_pixels
        self._metadata = security.metadata()
        self._is_tls = bool(security.root_ca)
        self._channel = security_lib.channel(server, security)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def embed(self, images: Sequence[Image], version: int | None = None) -> Embedded:
        """Embeds images, all of them by one version of the model.

        Args:
          images: paths, or bytes of image files, of any format that is trained on; at least one. They are sent
            upright and on white, as JPEG or PNG.
          version: the version to ask, which may be one the server has besides the latest; the latest where None.

        Raises:
          VersionNotServedError: the server does not answer with `version`.
          UsageError: there is no image, one cannot be read, or the server has no such model.
          WorkError: the server cannot be reached, is too slow, or fails.
        """
        if not images:
            raise errors.UsageError("no images to embed; name at least one")
        for _ in range(_TRIES):
            answers = self._answers(images, version)
            if answers is not None:
                return Embedded(
                    embedding=np.concatenate([answer.embedding for answer in answers]),
                    status=np.concatenate([answer.status for answer in answers]),
                    model_version=answers[0].model_version,
                )
        raise errors.WorkError(
            f"the model {self.model_name} at {self.server} changed its version {_TRIES} times while it embedded "
            "these images; try again when no new model is being pushed"
        )

    def _answers(self, images: Sequence[Image], version: int | None) -> list[Embedded] | None:
        """An answer for each batch; None where a new version began to serve in between."""
        answers: list[Embedded] = []
        for batch, refused in self._batches(images):
            answer = self._predict(batch, version)
            if answer.model_version != (answers or [answer])[0].model_version:
                return None
            answers.append(dataclasses.replace(answer, status=np.where(refused, refused, answer.status)))
        return answers

    def _batches(self, images: Sequence[Image]) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """What is sent, and the status of each image that was refused here, int32: such a one is sent as nothing."""
        batch: list[bytes] = []
        refused: list[int] = []
        size = 0
        for image in images:
            encoded, status = self._seen(image)
            if batch and (len(batch) == self._batch_size or size + len(encoded) > _MAX_BATCH_BYTES):
                yield batch, np.array(refused, np.int32)
                batch, refused, size = [], [], 0
            batch.append(encoded)
            refused.append(status)
            size += len(encoded)
        yield batch, np.array(refused, np.int32)

    def _seen(self, image: Image) -> tuple[bytes, int]:
        """An image as a person sees it, JPEG or PNG; or nothing, and the status that says why."""
        most = pictures.max_bytes(self._max_pixels)
        data = _read(image, most + 1)
        if len(data) > most:
            return b"", signatures.STATUS_TOO_LARGE
        try:
            return pictures.read(data, self._max_pixels).encoded, signatures.STATUS_OK
        except pictures.BadImage as error:
            return b"", error.status

    def _predict(self, images: list[bytes], version: int | None) -> Embedded:
        try:
            request = self._request(images, version)
            response = self._prediction.Predict(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            if version is not None and error.code() == grpc.StatusCode.NOT_FOUND:
                raise self._not_served(version) from error
            raise self._failure(error) from error
        for output in (signatures.EMBEDDING, signatures.STATUS):
            if output not in response.outputs:
                raise errors.UsageError(
                    f"model {self.model_name} at {self.server} has no output {output!r}; it is no embedder of longtail"
                )
        return Embedded(
            embedding=tf.make_ndarray(response.outputs[signatures.EMBEDDING]),
            status=tf.make_ndarray(response.outputs[signatures.STATUS]),
            model_version=response.model_spec.version.value,
        )

    def _request(self, images: list[bytes], version: int | None) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signatures.SERVING
        if version is not None:
            request.model_spec.version.value = version
        tensor = request.inputs[signatures.IMAGE_BYTES]
        tensor.dtype = types_pb2.DT_STRING
        tensor.tensor_shape.dim.add(size=len(images))
        tensor.string_val.extend(images)
        return request

    def _not_served(self, version: int) -> VersionNotServedError:
        """What to raise for `version`; raises UsageError itself where there is no such model at all."""
        available = [entry.version for entry in self.status() if entry.state == "AVAILABLE"]
        answering = " and ".join(map(str, available)) or "no version"
        return VersionNotServedError(
            f"the model server at {self.server} answers with {answering} of model {self.model_name}, not with version "
            f"{version}; ask for one it has",
            available,
        )

    def status(self) -> list[VersionStatus]:
        """What the server says of the model's versions.

        Raises:
          UsageError: the server has no such model.
          WorkError: the server cannot be reached, is too slow, or fails.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self.model_name
        try:
            response = self._model.GetModelStatus(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return [
            VersionStatus(
                version=entry.version,
                state=get_model_status_pb2.ModelVersionStatus.State.Name(entry.state),
                error=entry.status.error_message,
            )
            for entry in response.model_version_status
        ]

    def _failure(self, error: grpc.RpcError) -> Exception:
        """One line of what went wrong, and whose it is to mend."""
        code, details = error.code(), (error.details() or "").split("\n")[0]
        where = f"the model server at {self.server}"
        if code == grpc.StatusCode.UNAVAILABLE:
            how = "over TLS" if self._is_tls else "in clear"
            return errors.WorkError(f"no model server answers {how} at {self.server}; is it running? ({details})")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.WorkError(
                f"{where} gave no answer within {self._timeout_s:g} s; send fewer images at a time or wait longer"
            )
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return errors.UsageError(
                f"{where} does not know this client; bring a token it takes (--token-file or {security_lib.VARIABLE})"
            )
        if code == grpc.StatusCode.NOT_FOUND:
            return errors.UsageError(f"{where} has no model {self.model_name!r}; name the one it serves ({details})")
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return errors.UsageError(
                f"model {self.model_name} at {self.server} does not take encoded images as longtail's do: {details}"
            )
        return errors.WorkError(f"{where} failed: {code.name}: {details}")

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""How a component embeds images: through an exported model's serving signature, as any client."""

import itertools
import os
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.export import signatures

BATCH = 64


class Embedder:
    """A SavedModel, loaded once.

    Attributes:
      uri: the folder it was loaded from.
      dimension: d of its embeddings, or None where the model does not say.
    """

    def __init__(self, uri: str):
        """Loads the model.

        Args:
          uri: the folder with `saved_model.pb`, on any file system TensorFlow knows.

        Raises:
          errors.WorkError: there is no SavedModel, or its serving signature is another one.
        """
        self.uri = uri
        # TensorFlow lets go of the variables with the loaded object, so it is kept.
        self._model = _load(uri)
        self._signature = _serving_signature(self._model, uri)
        shape = self._signature.structured_outputs[signatures.EMBEDDING].shape
        self.dimension = shape[1] if shape.rank == 2 else None

    def __call__(self, images: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Embeds one batch.

        Args:
          images: encoded images.

        Returns:
          embedding float32 [N, d], status int32 [N] (see `longtail.models.export.signatures`).

        Raises:
          errors.WorkError: the model fails, or answers with other shapes or with values that are
            not finite.
        """
        try:
            output = self._signature(**{signatures.IMAGE_BYTES: tf.constant(images, tf.string)})
        except tf.errors.OpError as error:
            raise errors.WorkError(
                f"{self.uri}: the model failed on a batch of {len(images)}: {_first_line(error)}"
            ) from error
        embedding = output[signatures.EMBEDDING].numpy()
        status = output[signatures.STATUS].numpy()
        self._check(embedding, status, len(images))
        return embedding, status

    def _check(self, embedding: np.ndarray, status: np.ndarray, count: int) -> None:
        if embedding.ndim != 2 or len(embedding) != count or status.shape != (count,):
            raise errors.WorkError(
                f"{self.uri}: {count} images must give an embedding [{count}, d] and a status "
                f"[{count}], not {list(embedding.shape)} and {list(status.shape)}; export it anew"
            )
        good = embedding[status == signatures.STATUS_OK]
        broken = len(good) - int(np.isfinite(good).all(axis=1).sum())
        if broken:
            raise errors.WorkError(
                f"{self.uri}: embeddings of {broken} of {count} images in a batch are not finite "
                "(NaN or infinite); the training has diverged"
            )


def embed_images(
    embedder: Embedder, images: Iterable[bytes], batch: int = BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds any number of images in this process, a batch in memory at a time.

    Args:
      embedder: the model.
      images: encoded images; taken from the iterable as they are needed.
      batch: images a call.

    Returns:
      embedding float32 [N, d], status int32 [N], in the order of `images`.

    Raises:
      errors.WorkError: see `Embedder`.
    """
    parts = [embedder(some) for some in _batches(images, batch)]
    if not parts:
        return np.zeros((0, embedder.dimension or 0), np.float32), np.zeros(0, np.int32)
    embedding, status = zip(*parts, strict=True)
    return np.concatenate(embedding), np.concatenate(status)


def _batches(images: Iterable[bytes], batch: int) -> Iterator[list[bytes]]:
    images = iter(images)
    while some := list(itertools.islice(images, batch)):
        yield some


def _load(uri: str):
    if not tf.io.gfile.exists(os.path.join(uri, tf.saved_model.SAVED_MODEL_FILENAME_PB)):
        raise errors.WorkError(
            f"{uri}: no SavedModel here ({tf.saved_model.SAVED_MODEL_FILENAME_PB} is missing)"
        )
    try:
        return tf.saved_model.load(uri)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise errors.WorkError(
            f"{uri}: not loadable as a SavedModel: {_first_line(error)}; export it anew"
        ) from error


def _serving_signature(model, uri: str):
    signature = model.signatures.get(signatures.SERVING) if hasattr(model, "signatures") else None
    takes, gives = [], []
    if signature is not None:
        takes = sorted(signature.structured_input_signature[1])
        gives = sorted(signature.structured_outputs)
    missing = {signatures.EMBEDDING, signatures.STATUS}.difference(gives)
    if missing or takes != [signatures.IMAGE_BYTES]:
        raise errors.WorkError(
            f"{uri}: signature '{signatures.SERVING}' must take {signatures.IMAGE_BYTES} and give "
            f"{signatures.EMBEDDING} and {signatures.STATUS}; it takes "
            f"{', '.join(takes) or 'nothing'} and gives {', '.join(gives) or 'nothing'}"
        )
    return signature


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

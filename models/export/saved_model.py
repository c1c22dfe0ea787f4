"""Writes the SavedModel that is served, frozen: its signatures; warm-up requests, weights and card beside them."""

import json
import os
import tempfile
import types
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models.export import freeze
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.export import signatures


class ServedEmbedder(tf.Module):
    """An embedder behind the two signatures of `longtail.models.export.signatures`.

    Args:
      embedder: Keras model, float32 [N, h, w, c] in [-1, 1] -> [N, d].
      preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status); a tf.Module or a Keras layer, so that what
        it holds is saved too.
      rich: the embedder is a `networks.FilteredEmbedder`, whose rich features are an output too.
    """

    def __init__(self, embedder: tf.keras.Model, preprocess: Callable, rich: bool = False):
        super().__init__()
        self.embedder = embedder
        self._rich = rich
        self.preprocess = preprocess
        image = embedder.input_shape[1:]
        self.from_bytes = tf.function(
            self._from_bytes,
            input_signature=[tf.TensorSpec([None], tf.string, name=signatures.IMAGE_BYTES)],
        )
        self.from_pixels = tf.function(
            self._from_pixels,
            input_signature=[tf.TensorSpec([None, *image], tf.uint8, name=signatures.PIXELS_INPUT)],
        )

    def _embed(self, images: tf.Tensor, status: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {}
        if self._rich:
            found[signatures.RICH] = self.embedder.encoder(images, training=False)
            embedding = self.embedder.filter(found[signatures.RICH], training=False)
        else:
            embedding = self.embedder(images, training=False)
        found[signatures.EMBEDDING] = tf.math.l2_normalize(tf.cast(embedding, tf.float32), axis=-1)
        readable = tf.equal(status, signatures.STATUS_OK)[:, tf.newaxis]
        found = {name: tf.where(readable, tf.cast(rows, tf.float32), 0.0) for name, rows in found.items()}
        return {**found, signatures.STATUS: status}

    @tf.autograph.experimental.do_not_convert
    def _from_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._embed(*self.preprocess(image_bytes))

    @tf.autograph.experimental.do_not_convert
    def _from_pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        status = tf.fill([tf.shape(pixels)[0]], signatures.STATUS_OK)
        return self._embed(preprocess_lib.normalise(pixels), status)


def _write_warmup(path: str, image_shape: tuple[int, int, int], batch_sizes: tuple[int, ...]) -> None:
    blank = tf.io.encode_png(tf.zeros(image_shape, tf.uint8)).numpy()
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for size in batch_sizes:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signatures.SERVING
            request.inputs[signatures.IMAGE_BYTES].CopyFrom(tf.make_tensor_proto([blank] * size))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _write_weights(embedder: tf.keras.Model, path: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # Keras writes local files only
        local = os.path.join(folder, os.path.basename(path))
        embedder.save_weights(local)
        tf.io.gfile.copy(local, path)


def export(
    embedder: tf.keras.Model,
    preprocess: Callable,
    path: str,
    card: dict[str, Any] | None = None,
    warmup_batches: tuple[int, ...] = (1, 16),
    beside: Mapping[str, bytes] = types.MappingProxyType({}),
    rich: bool = False,
) -> str:
    """Exports `embedder` as a SavedModel at `path`, which appears complete, by rename.

    Its variables are constants, so that a server can fold them; the weights lie beside it as a Keras file, for
    `embedder.load_weights`.

    Args:
      embedder: Keras model, float32 [N, h, w, c] in [-1, 1] -> [N, d].
      preprocess: see `ServedEmbedder`.
      path: folder to make; it must not exist.
      card: what to say of the model beside it (JSON-serialisable).
      warmup_batches: batch sizes a server runs before it takes requests.
      beside: further files, by their paths in the folder; no server reads them.
      rich: see `ServedEmbedder`.

    Returns:
      `path`.

    Raises:
      FileExistsError: `path` exists.
    """
    if tf.io.gfile.exists(path):
        raise FileExistsError(f"{path} exists; a model is never written over another")
    image_shape = embedder.input_shape[1:]
    served = ServedEmbedder(embedder, preprocess, rich)
    half = f"{path}.partial"
    if tf.io.gfile.exists(half):
        tf.io.gfile.rmtree(half)
    described = {"image_shape": list(image_shape), "dimension": embedder.output_shape[-1], **(card or {})}
    try:
        names = {signatures.SERVING: served.from_bytes, signatures.PIXELS: served.from_pixels}
        tf.saved_model.save(served, half, signatures=names)
        freeze.freeze(half)
        _write_warmup(os.path.join(half, signatures.WARMUP_FILE), image_shape, warmup_batches)
        _write_weights(embedder, os.path.join(half, signatures.WEIGHTS_FILE))
        for name, content in beside.items():
            with tf.io.gfile.GFile(os.path.join(half, name), "wb") as file:
                file.write(content)
        with tf.io.gfile.GFile(os.path.join(half, signatures.MODEL_CARD_FILE), "w") as file:
            file.write(json.dumps(described, indent=1, sort_keys=True))
    except BaseException:
        if tf.io.gfile.exists(half):
            tf.io.gfile.rmtree(half)
        raise
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    tf.io.gfile.rename(half, path)
    return path

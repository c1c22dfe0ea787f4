"""What the serving benchmarks serve and send: exported models, photograph-like JPEGs, requests, and pushes."""

import base64
import json
import os
import pickle
import shutil
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from longtail.models import backbones
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.export import signatures

MODEL = "bench"
REST_PATH = f"/v1/models/{MODEL}:predict"

_ROUGHNESS = 1.2  # power of the spectrum's fall: photographs' is about 1
_QUALITY = 80


def photograph(rng: np.random.Generator, height: int, width: int) -> bytes:
    """A JPEG whose spectrum falls as a photograph's does, its channels alike, so that it decodes at their cost."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis])
    frequency[0, 0] = 1.0
    shape = (4, *frequency.shape)
    waves = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / frequency**_ROUGHNESS
    fields = np.fft.irfft2(waves, (height, width))
    channels = fields[:1] + 0.3 * fields[1:]
    channels = 128.0 + 50.0 * (channels - channels.mean((1, 2), keepdims=True)) / channels.std((1, 2), keepdims=True)
    pixels = np.clip(channels, 0.0, 255.0).astype(np.uint8).transpose(1, 2, 0)
    return tf.io.encode_jpeg(pixels, quality=_QUALITY).numpy()


def photographs(count: int, side: int) -> list[bytes]:
    """JPEGs of many sizes around side x side, drawn from a fixed seed."""
    rng = np.random.default_rng(0)
    return [photograph(rng, *rng.integers(side * 4 // 5, side * 4 // 3, 2, endpoint=True)) for _ in range(count)]


def _mobilenet(side: int, dimension: int) -> tf.keras.Model:
    body = tf.keras.applications.MobileNetV2(
        input_shape=(side, side, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    x = tf.keras.layers.Dense(dimension, use_bias=False)(body.output)
    return tf.keras.Model(body.input, tf.keras.layers.BatchNormalization(dtype="float32")(x))


def export_model(kind: str, folder: str) -> int:
    """Exports version 1 of an untrained embedder to `folder`, as a run pushes one, with the JPEG decoder inside.

    Args:
      kind: "mobilenet" (MobileNetV2-0.35 at 96 pixels, 128-d) or "conv4" (at 32 pixels, 128-d).
      folder: of the model.

    Returns:
      Its side, pixels.
    """
    side = 96 if kind == "mobilenet" else 32
    tf.keras.utils.set_random_seed(0)
    embedder = _mobilenet(side, 128) if kind == "mobilenet" else backbones.build_embedder(kind, (side, side, 3), 128)
    saved_model.export(embedder, preprocess.Preprocess((side, side, 3)), os.path.join(folder, "1"))
    return side


def push(source: str, folder: str, version: int) -> None:
    """Puts version folder `source` into `folder` as another version, as a pusher does: it appears complete."""
    half = os.path.join(folder, f"{version}.partial")
    shutil.copytree(source, half)
    os.rename(half, os.path.join(folder, str(version)))


def grpc_body(images: Sequence[bytes], version: int | None = None) -> bytes:
    """A PredictRequest of encoded images."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signatures.SERVING
    if version is not None:
        request.model_spec.version.value = version
    tensor = request.inputs[signatures.IMAGE_BYTES]
    tensor.dtype = tf.string.as_datatype_enum
    tensor.tensor_shape.dim.add(size=len(images))
    tensor.string_val.extend(images)
    return request.SerializeToString()


def rest_body(images: Sequence[bytes]) -> bytes:
    """The same as JSON, a row an image."""
    rows = [{"b64": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"instances": rows}).encode()


def grpc_embeddings(answer: bytes) -> np.ndarray:
    """float32 [N, d] of a PredictResponse."""
    return tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs[signatures.EMBEDDING])


def rest_embeddings(answer: bytes) -> np.ndarray:
    """float32 [N, d] of an answer over REST."""
    rows = json.loads(answer)["predictions"]
    return np.array([row[signatures.EMBEDDING] for row in rows], np.float32)


def write_bodies(path: str, bodies: Sequence[bytes]) -> str:
    """Writes requests, or images, for a process of the benchmark to read."""
    with open(path, "wb") as file:
        pickle.dump(list(bodies), file)
    return path

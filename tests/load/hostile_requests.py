"""Requests that no client sends who means well: protos, JSON, images, HTTP and HTTP/2, mutated from a fixed seed."""

import base64
import dataclasses
import functools
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import predict_pb2

from longtail.models.export import signatures

GRPC, REST, RAW_GRPC, RAW_REST = "gRPC", "REST", "gRPC's port", "REST's port"

_PREDICTION = "/tensorflow.serving.PredictionService/"
_PREDICT = _PREDICTION + "Predict"
_METHODS = (
    _PREDICT,
    _PREDICTION + "GetModelMetadata",
    _PREDICTION + "Classify",
    _PREDICTION + "Regress",
    _PREDICTION + "MultiInference",
    "/tensorflow.serving.ModelService/GetModelStatus",
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
    "/grpc.health.v1.Health/Check",
    "/tensorflow.serving.PredictionService/None",
    "/",
)
_SIZES = (-(2**63), -2, -1, 0, 1, 2, 3, 96, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)
_TEXTS = ("", "a", "\x00", "é", "𝕏" * 9, "..", "/", "serving_default", "pixels", "x" * 3000, "%s%n", "{}", "\u202e")
_JPEG_SIZE = b"\xff\xc0"  # the marker before height and width
_DEPTH = 100_000
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
      kind: what is wrong with it.
      surface: GRPC, REST, RAW_GRPC or RAW_REST.
      target: gRPC's method, or HTTP's method and path; empty for raw bytes.
      data: the message, the body, or all that is sent.
    """

    kind: str
    surface: str
    target: str
    data: bytes


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """`data` with bits flipped, a piece cut out, a piece doubled, noise put in, or its end cut off."""
    text = bytearray(data)
    at, to = sorted(rng.integers(0, len(text) + 1, 2).tolist())
    way = rng.integers(5)
    if way == 0 and text:
        for place in rng.integers(0, len(text), rng.integers(1, 20)):
            text[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del text[at : min(to, at + 64)]
    elif way == 2:
        text[at:at] = text[at : min(to, at + 256)]
    elif way == 3:
        text[at:at] = rng.bytes(int(rng.integers(1, 64)))
    else:
        del text[at:]
    return bytes(text)


def _png(height: int, width: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


_BOMB = zlib.compress(bytes(32 << 20), 9)


@functools.cache
def _compressed_zeros() -> bytes:
    return gzip.compress(bytes(96 << 20), mtime=0)


class Hostile:
    """An endless, repeatable stream of requests.

    Args:
      model: what the server calls its model.
      images: encoded, which the model takes.
      seed: of all that is drawn.
    """

    def __init__(self, model: str, images: list[bytes], seed: int):
        self._model, self._images = model, images
        self._rng = np.random.default_rng(seed)
        self._makers: tuple[Callable[[], Request], ...] = (
            self._mutated_predict,
            self._mutated_other,
            self._packed,
            self._noise,
            self._fields,
            self._tensor,
            self._image,
            self._rest_image,
            self._mutated_json,
            self._json,
            self._deep_json,
            self._path,
            self._raw_http,
            self._raw_http2,
        )

    def __iter__(self) -> Iterator[Request]:
        while True:
            yield self._one_of(self._makers)()

    def _one_of(self, choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]

    def _predict(self, images: list[bytes] | None = None) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self._model
        request.model_spec.signature_name = signatures.SERVING
        tensor = request.inputs[signatures.IMAGE_BYTES]
        tensor.dtype = types_pb2.DT_STRING
        tensor.string_val.extend(images or [self._one_of(self._images)])
        tensor.tensor_shape.dim.add(size=len(tensor.string_val))
        return request

    def _mutated_predict(self) -> Request:
        data = self._predict().SerializeToString()
        for _ in range(int(self._rng.integers(1, 4))):
            data = mutated(self._rng, data)
        return Request("mutated PredictRequest", GRPC, _PREDICT, data)

    def _mutated_other(self) -> Request:
        request = self._one_of(
            [get_model_metadata_pb2.GetModelMetadataRequest(), get_model_status_pb2.GetModelStatusRequest()]
        )
        request.model_spec.name = self._model
        request.model_spec.version.value = self._one_of(_SIZES)
        if hasattr(request, "metadata_field"):
            request.metadata_field.append("signature_def")
        target = _METHODS[1] if hasattr(request, "metadata_field") else _METHODS[5]
        return Request("mutated metadata or status", GRPC, target, mutated(self._rng, request.SerializeToString()))

    def _packed(self) -> Request:
        """What looks as if gRPC had compressed it: damaged, or more than a request may hold."""
        if not self._rng.integers(20):
            return Request("96 MiB of zeros, compressed", GRPC, self._one_of(_METHODS), _compressed_zeros())
        data = gzip.compress(mutated(self._rng, self._predict().SerializeToString()), 1, mtime=0)
        return Request("mutated compressed message", GRPC, _PREDICT, self._one_of([data, mutated(self._rng, data)]))

    def _noise(self) -> Request:
        data = self._rng.bytes(int(self._rng.integers(0, 2000)))
        return Request("noise as a message", GRPC, self._one_of(_METHODS), data)

    def _fields(self) -> Request:
        request = self._predict()
        text = self._one_of(_TEXTS)
        way = self._rng.integers(8)
        if way == 0:
            request.model_spec.name = text
        elif way == 1:
            request.model_spec.version.value = self._one_of(_SIZES)
        elif way == 2:
            request.model_spec.version_label = text
        elif way == 3:
            request.model_spec.signature_name = text
        elif way == 4:
            request.inputs[text].CopyFrom(request.inputs[signatures.IMAGE_BYTES])
        elif way == 5:
            request.inputs.clear()
        elif way == 6:
            request.output_filter.extend([text] * int(self._rng.integers(1, 300)))
        else:
            request.ClearField("model_spec")
        return Request("wrong names", GRPC, _PREDICT, request.SerializeToString())

    def _tensor(self) -> Request:
        """A tensor that contradicts itself, the signature, or reason."""
        request = self._predict()
        rng = self._rng
        if rng.integers(2):
            request.model_spec.signature_name = signatures.PIXELS
            request.inputs.clear()
        alias = signatures.PIXELS_INPUT if not request.inputs else signatures.IMAGE_BYTES
        tensor = tensor_pb2.TensorProto(dtype=self._one_of([0, 1, 3, 4, 7, 7, 8, 9, 14, 19, 20, 21, 23, 101, 107, 999]))
        for _ in range(int(self._one_of([0, 1, 1, 2, 4, 4, 7, 255, 1000]))):
            tensor.tensor_shape.dim.add(size=self._one_of(_SIZES), name=self._one_of(_TEXTS[:4]))
        tensor.tensor_shape.unknown_rank = not rng.integers(8)
        tensor.version_number = int(rng.integers(-1, 3))
        if rng.integers(2):
            tensor.tensor_content = rng.bytes(int(self._one_of([0, 1, 7, 96 * 96 * 3])))
        if rng.integers(2):
            tensor.string_val.extend([b"", self._one_of(self._images)] * int(rng.integers(0, 3)))
        if rng.integers(2):
            tensor.float_val.extend([float("nan"), 1e38] * int(rng.integers(0, 3)))
            tensor.int_val.extend([-1, 2**31 - 1] * int(rng.integers(0, 3)))
        if not rng.integers(4):
            tensor.resource_handle_val.add(name="a", container="b", hash_code=1, maybe_type_name="c")
            tensor.variant_val.add(type_name=self._one_of(_TEXTS), metadata=rng.bytes(9))
        request.inputs[alias].CopyFrom(tensor)
        return Request("impossible tensor", GRPC, _PREDICT, request.SerializeToString())

    def _damaged(self) -> tuple[str, bytes]:
        """An image that is broken, no image, or too large; and which."""
        rng = self._rng
        image = self._one_of(self._images)
        way = rng.integers(100)
        if way < 40:
            return "damaged JPEG", mutated(rng, image)
        if way < 50:
            at = image.index(_JPEG_SIZE) + 5
            return "JPEG that states another size", image[:at] + rng.bytes(4) + image[at + 4 :]
        if way < 70:
            png = _png(8, 8, zlib.compress(rng.bytes(8 * 25)))
            return "damaged PNG", mutated(rng, png)
        if way < 74:
            return "PNG that states 20000 x 20000", _png(20_000, 20_000, _BOMB[:2000])
        if way < 75:
            return "PNG of 3200 x 3200 zeros", _png(3200, 3200, _BOMB)
        if way < 97:
            return "no image", self._one_of([b"", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF", rng.bytes(3000)])
        return "8 MiB of noise", self._one_of([image[:600], b""]) + rng.bytes(8 << 20)

    def _image(self) -> Request:
        kind, image = self._damaged()
        good = self._one_of(self._images)
        images = self._one_of([[image], [good, image], [image] * 2])
        return Request(kind, GRPC, _PREDICT, self._predict(images).SerializeToString())

    def _document(self, images: list[bytes]) -> dict[str, Any]:
        rows = [{"b64": base64.b64encode(image).decode()} for image in images]
        return self._one_of([{"instances": rows}, {"inputs": rows}, {"inputs": {signatures.IMAGE_BYTES: rows}}])

    def _rest(self, kind: str, body: bytes) -> Request:
        return Request(kind, REST, f"POST /v1/models/{self._model}:predict", body)

    def _rest_image(self) -> Request:
        kind, image = self._damaged()
        return self._rest(f"{kind}", json.dumps(self._document([image])).encode())

    def _mutated_json(self) -> Request:
        body = json.dumps(self._document([self._one_of(self._images)])).encode()
        return self._rest("mutated JSON", mutated(self._rng, body if self._rng.integers(2) else body[:80]))

    def _value(self, depth: int) -> Any:
        rng = self._rng
        if depth and rng.integers(2):
            if rng.integers(2):
                return [self._value(depth - 1) for _ in range(int(rng.integers(0, 4)))]
            keys = ["b64", "instances", "inputs", "signature_name", signatures.IMAGE_BYTES, "pixels", *_TEXTS]
            return {self._one_of(keys): self._value(depth - 1) for _ in range(int(rng.integers(0, 3)))}
        leaves = [None, True, 0, -1, 2**63, 2**64, 10**400, 0.5, 1e308, float("nan"), float("inf"), *_TEXTS, "AA=A"]
        return self._one_of(leaves)

    def _json(self) -> Request:
        document = self._document([self._one_of(self._images)])
        key = self._one_of(["instances", "inputs", "signature_name", "x"])
        document = self._one_of([{key: self._value(4)}, {**document, key: self._value(2)}, self._value(5)])
        return self._rest("JSON of another form", json.dumps(document).encode())

    def _deep_json(self) -> Request:
        depth = int(self._one_of([100, 300, 2000, _DEPTH]))
        opened, closed = self._one_of([("[", "]"), ('{"a":', "}"), ('{"instances":[', "]}"), ("[{}, ", "]")])
        body = opened * depth + self._one_of(["1", "", '"a"', "1e999", "-" * 9, "1" * 5000]) + closed * depth
        text = self._one_of(["%s", '{"instances": %s}', '{"inputs": {"image_bytes": %s}}']) % body
        return self._rest("deep JSON", text.encode())

    def _path(self) -> Request:
        pieces = ["v1", "models", self._model, "versions", "labels", "1", "99", "metadata", "..", "%00", "%2e%2e", "-1"]
        path = "/" + "/".join(self._one_of(pieces) for _ in range(int(self._rng.integers(1, 7))))
        path += self._one_of(["", ":predict", ":classify", "?a=b", ":", "x" * 5000, "%ff"])
        method = self._one_of(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
        return Request("wrong path", REST, f"{method} {path}", self._one_of([b"", b"{}", b'{"instances": [1]}']))

    def _raw_http(self) -> Request:
        body = json.dumps(self._document([self._images[0]])).encode()
        lines = [
            b"Content-Length: %d" % len(body),
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Content-Length: %d\r\nContent-Length: 3" % len(body),
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 4",
            b"Content-Encoding: gzip\r\nContent-Length: %d" % len(body),
            b"Expect: 100-continue\r\nContent-Length: %d" % len(body),
            b"X: " + b"y" * 70_000,
            b"X\x00: 1",
            b"Connection: Upgrade\r\nUpgrade: h2c",
        ]
        head = b"POST /v1/models/%s:predict HTTP/1.1\r\nHost: a\r\n" % self._model.encode()
        data = head + self._one_of(lines) + b"\r\n\r\n" + self._one_of([body, body[:99], b"zz\r\n", b""])
        return Request("mutated HTTP", RAW_REST, "", mutated(self._rng, data) if self._rng.integers(2) else data)

    def _raw_http2(self) -> Request:
        rng = self._rng
        frames = io.BytesIO()
        for _ in range(int(rng.integers(1, 30))):
            body = rng.bytes(int(self._one_of([0, 4, 5, 6, 8, 100, 1000])))
            stated = len(body) if rng.integers(6) else int(rng.integers(1 << 24))
            kind, flags, stream = int(rng.integers(11)), int(self._one_of([0, 1, 4, 5, 255])), int(rng.integers(5))
            frames.write(struct.pack(">I", stated)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body)
        settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        start = self._one_of([_PREFACE + settings, _PREFACE, _PREFACE[:9], b"", b"GET / HTTP/1.1\r\n\r\n"])
        return Request("mutated HTTP/2", RAW_GRPC, "", start + frames.getvalue())

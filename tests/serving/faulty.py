"""For the tests of faults: a model that waits, or answers at length, when told to, and clients that behave badly."""

import os
import struct
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from longtail.models.export import preprocess
from longtail.models.export import signatures

NAME = "faulty"
LARGE_BYTES = 4 << 20  # of a row of the large answer

_SHAPE = (8, 8, 3)
_PREDICT = b"/tensorflow.serving.PredictionService/Predict"


class Faulty(tf.Module):
    """Embeds images, and has two signatures to make trouble with.

    Args:
      seed: of the weights; versions of different seeds answer differently.
    """

    def __init__(self, seed: int):
        super().__init__()
        self.preprocess = preprocess.Preprocess(_SHAPE)
        self.weights = tf.Variable(tf.random.stateless_normal([int(np.prod(_SHAPE)), 8], [seed, 0]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=signatures.IMAGE_BYTES)])
    def embed(self, image_bytes):
        pixels, status = self.preprocess(image_bytes)
        embedding = tf.reshape(pixels, [-1, self.weights.shape[0]]) @ self.weights
        return {signatures.EMBEDDING: tf.math.l2_normalize(embedding, axis=-1), signatures.STATUS: status}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="gate")])
    def wait(self, gate):
        """Writes GATE.begun, and ends when there is a file GATE."""
        begun = tf.io.write_file(gate[0] + ".begun", "")
        with tf.control_dependencies([begun]):
            opened = tf.while_loop(
                lambda opened: tf.logical_not(opened), lambda _: [tf.size(tf.io.matching_files(gate)) > 0], [False]
            )
        with tf.control_dependencies(opened):
            return {"gate": tf.identity(gate)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="rows")])
    def large(self, rows):
        return {"large": tf.tile(rows[:, tf.newaxis], [1, LARGE_BYTES // 4])}


def export(path: os.PathLike, seed: int = 0) -> None:
    """Writes the model as a SavedModel."""
    model = Faulty(seed)
    named = {signatures.SERVING: model.embed, "wait": model.wait, "large": model.large}
    tf.saved_model.save(model, str(path), signatures=named)


def request(signature: str, array: np.ndarray) -> predict_pb2.PredictRequest:
    """A request of the signature's only input."""
    alias = {signatures.SERVING: signatures.IMAGE_BYTES, "wait": "gate", "large": "rows"}[signature]
    built = predict_pb2.PredictRequest()
    built.model_spec.name = NAME
    built.model_spec.signature_name = signature
    built.inputs[alias].CopyFrom(tf.make_tensor_proto(array))
    return built


def images(*encoded: bytes) -> predict_pb2.PredictRequest:
    """A request to embed images."""
    return request(signatures.SERVING, np.array(encoded, object))


def wait(gate: os.PathLike) -> predict_pb2.PredictRequest:
    """A request that is answered when the file `gate` is there; GATE.begun appears when it is being computed."""
    return request("wait", np.array([str(gate)], object))


def large(rows: int) -> predict_pb2.PredictRequest:
    """A request whose answer has LARGE_BYTES for each row."""
    return request("large", np.zeros(rows, np.float32))


class Stubs:
    """Stubs over a connection of their own."""

    def __init__(self, address: str):
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
        ]
        self.channel = grpc.insecure_channel(address, options=options)
        self.predict = prediction_service_pb2_grpc.PredictionServiceStub(self.channel).Predict
        self._status = model_service_pb2_grpc.ModelServiceStub(self.channel).GetModelStatus

    def embedding(self, encoded: bytes, **call) -> np.ndarray:
        """Of one image."""
        return tf.make_ndarray(self.predict(images(encoded), **call).outputs[signatures.EMBEDDING])[0]

    def states(self, **call) -> dict[int, tuple[str, str]]:
        """Version -> name of its state, and what went wrong with it."""
        asked = get_model_status_pb2.GetModelStatusRequest()
        asked.model_spec.name = NAME
        names = get_model_status_pb2.ModelVersionStatus.State.Name
        answer = self._status(asked, **call).model_version_status
        return {entry.version: (names(entry.state), entry.status.error_message) for entry in answer}


class Crowd:
    """Clients, each a connection and a thread of its own, that ask again and again until told to end.

    Args:
      address: HOST:PORT.
      encoded: the image they ask about.
      clients: how many.
    """

    def __init__(self, address: str, encoded: bytes, clients: int):
        self._address, self._encoded = address, encoded
        self._ended = threading.Event()
        self._lock = threading.Condition()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        self.answered: dict[int, int] = {}  # version -> answers
        self.failed: list[grpc.RpcError] = []

    def _ask(self) -> None:
        stubs = Stubs(self._address)
        while not self._ended.is_set():
            try:
                answer = stubs.predict(images(self._encoded), timeout=60)
            except grpc.RpcError as error:
                with self._lock:
                    self.failed.append(error)
                    self._lock.notify_all()
                break
            version = answer.model_spec.version.value
            with self._lock:
                self.answered[version] = self.answered.get(version, 0) + 1
                self._lock.notify_all()
        stubs.channel.close()

    def wait_for(self, version: int, more: int = 1) -> bool:
        """Blocks until `more` answers of a version have come from now on; False if a client failed before."""
        with self._lock:
            wanted = self.answered.get(version, 0) + more
            self._lock.wait_for(lambda: self.failed or self.answered.get(version, 0) >= wanted, timeout=120)
            return not self.failed and self.answered.get(version, 0) >= wanted

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def _literal(name: bytes, value: bytes) -> bytes:
    return name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")


def http2_call(stream: int, message: bytes) -> bytes:
    """A whole call of Predict, as bytes of HTTP/2; `stream` is odd and higher than the one before."""
    headers = b"\x83\x86" + _literal(b"\x04", _PREDICT) + _literal(b"\x01", b"localhost")
    headers += _literal(b"\x0f\x10", b"application/grpc") + _literal(b"\x00\x02te", b"trailers")
    framed = b"\x00" + struct.pack(">I", len(message)) + message
    return _frame(1, 4, stream, headers) + _frame(0, 1, stream, framed)



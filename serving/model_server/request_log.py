"""Keeps a sample of the requests that were answered, as TF Serving's request logger does, for skew to be found later.

A file is TFRecord of `tensorflow.serving.PredictionLog`, the requests without their answers. It is written under
another name and appears complete, by rename.
"""

import contextlib
import dataclasses
import datetime
import logging
import os
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving.model_server import metrics
from longtail.serving.model_server.runtime import servable as servable_lib
from longtail.serving.model_server.runtime import tensors

log = logging.getLogger("longtail")

SUFFIX = ".tfrecord"
PARTIAL = ".partial"  # what a file that is being written is called, after its name

_NOW_AND_THEN_S = 60.0  # between two lines about dropped requests


@dataclasses.dataclass(frozen=True)
class Options:
    """What is kept, and where: any `tf.io.gfile` folder, made if need be."""

    folder: str
    rate: float = 1.0  # share of the requests that are kept, in (0, 1]
    file_bytes: int = 64 << 20  # a file that holds so much is finished
    file_s: float = 300.0  # and one so old, so that a quiet server's requests appear
    waiting_bytes: int = 64 << 20  # of requests that wait to be written; beyond it they are dropped


def of_tensors(signature: str, inputs: Mapping[str, tf.Tensor | np.ndarray]) -> predict_pb2.PredictRequest:
    """The request that asks over gRPC for what was asked over REST."""
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for alias, tensor in inputs.items():
        tensors.fill_proto(request.inputs[alias], np.asarray(tensor), as_content=True)
    return request


class RequestLog:
    """Writes requests in a thread of its own. Whatever becomes of it, no request waits for it or fails.

    Args:
      options: what is kept, and where.

    Raises:
      UsageError: the rate is none, or the folder cannot be written.
    """

    def __init__(self, options: Options):
        if not 0.0 < options.rate <= 1.0:
            raise errors.UsageError(f"the rate of logged requests must be above 0, at most 1. Received: {options.rate}")
        self.options = options
        self.dropped = self.written = 0  # of those sampled; a request counts as written when its file is complete
        self._say_again = 0.0
        self._waiting: queue.SimpleQueue[prediction_log_pb2.PredictionLog | None] = queue.SimpleQueue()  # None: the end
        self._waiting_bytes = 0
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._check_folder()

    def _check_folder(self) -> None:
        probe = os.path.join(self.options.folder, f"probe-{uuid.uuid4().hex}{PARTIAL}")
        try:
            tf.io.gfile.makedirs(self.options.folder)
            with tf.io.gfile.GFile(probe, "wb") as file:
                file.write(b"")
            tf.io.gfile.remove(probe)
        except tf.errors.OpError as error:
            raise errors.UsageError(
                f"request log {self.options.folder} cannot be written ({error.message.rpartition('; ')[2]}); "
                "name another folder"
            ) from error

    def start(self) -> None:
        """Writes from now on."""
        self._thread.start()

    def offer(self, servable: servable_lib.Servable, make: Callable[[], predict_pb2.PredictRequest]) -> None:
        """Keeps what `make` gives, if chance wills it and it holds image bytes and fits in; never waits or raises."""
        if self._closed or random.random() >= self.options.rate:
            return
        try:
            request = make()
            if signatures.IMAGE_BYTES in request.inputs:
                self._put(servable, request)
        except Exception as error:  # the request was answered well; only its record is lost
            log.exception("a request could not be logged")
            self._drop(1, error)

    def _put(self, servable: servable_lib.Servable, request: predict_pb2.PredictRequest) -> None:
        record = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        answered = record.log_metadata.model_spec
        answered.name, answered.version.value = servable.name, servable.version
        answered.signature_name = request.model_spec.signature_name or servable_lib.DEFAULT_SIGNATURE
        record.log_metadata.sampling_config.sampling_rate = self.options.rate
        size = record.ByteSize()
        with self._lock:
            fits = self._waiting_bytes + size <= self.options.waiting_bytes
            self._waiting_bytes += size if fits else 0
        if fits:
            self._waiting.put(record)
            return
        metrics.logged(servable.name, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self._drop(1, "they came faster than they could be written")

    def _drop(self, count: int, why: object) -> None:
        with self._lock:
            self.dropped += count
            is_said = time.monotonic() < self._say_again
            self._say_again = self._say_again if is_said else time.monotonic() + _NOW_AND_THEN_S
        if not is_said:
            line = (str(getattr(why, "message", why)) or repr(why)).splitlines()[0]
            log.warning("request log %s: %d requests dropped: %s", self.options.folder, self.dropped, line)

    def _run(self) -> None:
        while (record := self._take(None)) is not None:
            self._write_file(record)

    def _take(self, timeout_s: float | None) -> prediction_log_pb2.PredictionLog | None:
        record = self._waiting.get(timeout=timeout_s)
        if record is not None:
            with self._lock:
                self._waiting_bytes -= record.ByteSize()
        return record

    def _write_file(self, first: prediction_log_pb2.PredictionLog) -> None:
        started = datetime.datetime.now(datetime.timezone.utc)
        # Several servers may log into one folder.
        name = f"requests-{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        path, count = os.path.join(self.options.folder, name), 0
        try:
            with tf.io.TFRecordWriter(path + PARTIAL) as writer:
                for record in self._of_a_file(first):
                    count += 1
                    writer.write(record.SerializeToString())
                    metrics.logged(record.log_metadata.model_spec.name, grpc.StatusCode.OK)
            tf.io.gfile.rename(path + PARTIAL, path)
            self.written += count
        except Exception as error:  # a full disk may be emptied, and whatever it was, the next request tries again
            self._drop(max(1, count), error)
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.remove(path + PARTIAL)

    def _of_a_file(self, record: prediction_log_pb2.PredictionLog | None) -> Iterator[prediction_log_pb2.PredictionLog]:
        """`record` and those that come after it, until the file is full or old, or the server stops."""
        until, size = time.monotonic() + self.options.file_s, 0
        while record is not None:
            yield record
            size += record.ByteSize()
            left_s = until - time.monotonic()
            if size >= self.options.file_bytes or left_s <= 0.0:
                return
            try:
                record = self._take(left_s)
            except queue.Empty:
                return
        self._waiting.put(None)  # for the loop around

    def stop(self, timeout_s: float) -> None:
        """Writes what waits, finishes the file and says what came of it all; gives up after `timeout_s` seconds."""
        self._closed = True
        if not self._thread.is_alive():
            return
        self._waiting.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("request log %s: not finished within %g s; its end is lost", self.options.folder, timeout_s)
        log.info("request log %s: %d requests written, %d dropped", self.options.folder, self.written, self.dropped)

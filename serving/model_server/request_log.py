"""Keeps a sample of the requests that were answered, as TF Serving's request logger does, for skew to be found later.

A file is TFRecord of `tensorflow.serving.PredictionLog`, the requests without their answers. It is written under
another name and appears complete, by rename.
"""

import collections
import contextlib
import dataclasses
import datetime
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable
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

_Waiting = tuple[str, int, predict_pb2.PredictRequest]  # with the name and the version of the model that answered


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
        request.inputs[alias].CopyFrom(tensors.to_proto(np.asarray(tensor), as_content=True))
    return request


class _File:
    """A file being written."""

    def __init__(self, folder: str):
        started = datetime.datetime.now(datetime.timezone.utc)
        # Several servers may log into one folder.
        self.path = os.path.join(folder, f"requests-{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}{SUFFIX}")
        self.bytes = self.requests = 0
        self.began = time.monotonic()
        self._writer = tf.io.TFRecordWriter(self.path + PARTIAL)

    def write(self, record: bytes) -> None:
        self._writer.write(record)
        self.bytes += len(record)
        self.requests += 1

    def finish(self) -> None:
        self._writer.close()
        tf.io.gfile.rename(self.path + PARTIAL, self.path)

    def discard(self) -> None:
        """Leaves nothing of it, as far as that is possible where writing was not."""
        with contextlib.suppress(tf.errors.OpError):
            self._writer.close()
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.remove(self.path + PARTIAL)


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
        self._why, self._said, self._say_again = "", 0, 0.0
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._waiting_bytes = 0
        self._closing = False
        self._changed = threading.Condition()
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
        if random.random() >= self.options.rate:
            return
        try:
            request = make()
            if signatures.IMAGE_BYTES in request.inputs:
                self._put(servable, request)
        except Exception:  # the request was answered well; only its record is lost
            log.exception("a request could not be logged")
            with self._changed:
                self.dropped += 1

    def _put(self, servable: servable_lib.Servable, request: predict_pb2.PredictRequest) -> None:
        size = request.ByteSize()
        with self._changed:
            if self._closing or self._waiting_bytes + size > self.options.waiting_bytes:
                metrics.logged(servable.name, grpc.StatusCode.RESOURCE_EXHAUSTED)
                self.dropped += 1
                self._why = "they came faster than they could be written"
                return
            self._waiting.append((servable.name, servable.version, request))
            self._waiting_bytes += size
            self._changed.notify()

    def _run(self) -> None:
        file: _File | None = None
        while True:
            with self._changed:
                wait_s = max(0.0, file.began + self.options.file_s - time.monotonic()) if file else None
                self._changed.wait_for(lambda: self._waiting or self._closing, wait_s)
                waiting = self._waiting.popleft() if self._waiting else None
                if waiting is not None:
                    self._waiting_bytes -= waiting[2].ByteSize()
            if waiting is None and file is None:
                return
            file = self._write(file, waiting)
            now = time.monotonic()
            if self.dropped > self._said and now >= self._say_again:
                log.warning("request log %s: %d requests dropped: %s", self.options.folder, self.dropped, self._why)
                self._said, self._say_again = self.dropped, now + _NOW_AND_THEN_S

    def _record(self, name: str, version: int, request: predict_pb2.PredictRequest) -> bytes:
        record = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
        answered = record.log_metadata.model_spec
        answered.name, answered.version.value = name, version
        answered.signature_name = request.model_spec.signature_name or servable_lib.DEFAULT_SIGNATURE
        record.log_metadata.sampling_config.sampling_rate = self.options.rate
        return record.SerializeToString()

    def _write(self, file: _File | None, waiting: _Waiting | None) -> _File | None:
        """Adds a request, if any, to the file or a new one; returns the file where it is to go on."""
        lost = (file.requests if file else 0) + (waiting is not None)
        try:
            if waiting is not None:
                file = file or _File(self.options.folder)
                file.write(self._record(*waiting))
                metrics.logged(waiting[0], grpc.StatusCode.OK)
            assert file is not None
            old = time.monotonic() - file.began >= self.options.file_s
            if waiting is not None and not old and file.bytes < self.options.file_bytes:
                return file
            file.finish()
            self.written += file.requests
        except Exception as error:  # a full disk may be emptied, and whatever it was, the next request tries again
            with self._changed:
                self.dropped += lost
                self._why = (str(getattr(error, "message", error)) or repr(error)).splitlines()[0]
            if file is not None:
                file.discard()
        return None

    def stop(self, timeout_s: float) -> None:
        """Writes what waits, finishes the file and says what came of it all; gives up after `timeout_s` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("request log %s: not finished within %g s; its end is lost", self.options.folder, timeout_s)
        log.info("request log %s: %d requests written, %d dropped", self.options.folder, self.written, self.dropped)

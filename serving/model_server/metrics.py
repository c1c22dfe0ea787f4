"""What the server counts and times, as Prometheus reads it: under TF Serving's names where it has one for the thing.

One registry for the process, as TF Serving's is.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from collections.abc import Sequence

import grpc
import prometheus_client

from longtail.serving.model_server.runtime import request_errors

PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MICROS = 1e6
_TF_TOTAL = re.compile(rb"^((?:# HELP |# TYPE )?:tensorflow:[\w:]+)_total\b", re.MULTILINE)

prometheus_client.disable_created_metrics()
_registry = prometheus_client.CollectorRegistry()
prometheus_client.ProcessCollector(registry=_registry)


def _counter(name: str, documentation: str, *labels: str) -> prometheus_client.Counter:
    return prometheus_client.Counter(name, documentation, labels, registry=_registry)


def _gauge(name: str, documentation: str) -> prometheus_client.Gauge:
    return prometheus_client.Gauge(name, documentation, registry=_registry)


def _histogram(
    name: str, documentation: str, *labels: str, scale: float = 10, growth: float = 1.8, count: int = 33
) -> prometheus_client.Histogram:
    """Its buckets are `count` powers of `growth` from `scale` on, and one for what is above."""
    limits = itertools.accumulate([growth] * (count - 1), lambda limit, by: limit * by, initial=scale)
    buckets = [float(f"{limit:g}") for limit in limits]
    return prometheus_client.Histogram(name, documentation, labels, buckets=buckets, registry=_registry)


_SERVING, _SESSION = ":tensorflow:serving:", ":tensorflow:serving:batching_session:"
_SIZES = {"scale": 1, "growth": 2, "count": 14}
# servables/tensorflow/util.cc
_REQUESTS = _counter(_SERVING + "request_count", "Requests.", "model_name", "status")
_LATENCY = _histogram(_SERVING + "request_latency", "Microseconds to an answer.", "model_name", "API", "entrypoint")
_RUNTIME = _histogram(_SERVING + "runtime_latency", "Microseconds in the model.", "model_name", "API", "runtime")
# batching/batching_session.cc, batching/batching_util.h
_QUEUING = _histogram(
    _SESSION + "queuing_latency", "Microseconds in the queue.", "thread_pool_name", scale=100, growth=1.2, count=52
).labels("model_server_batch_threads")
_RUNS = _counter(_SESSION + "wrapped_run_count", "Batches run.")
_INPUT_SIZE = _histogram(_SESSION + "input_batch_size", "Rows of a request.", **_SIZES)
_PROCESSED_SIZE = _histogram(_SESSION + "processed_batch_size", "Rows of a batch.", **_SIZES)
# tensorflow/cc/saved_model/loader.cc
_LOADS = _counter(":tensorflow:cc:saved_model:load_attempt_count", "Tries to load.", "model_path", "status")
_LOAD_LATENCY = _counter(":tensorflow:cc:saved_model:load_latency", "Microseconds of loading.", "model_path")
# servables/tensorflow/saved_model_warmup_util.cc, core/request_logger.cc
_WARM_UP = _histogram(_SERVING + "model_warmup_latency", "Microseconds of warming up.", "model_path", "status")
_WARM_UP_RECORDS = _counter(_SERVING + "model_warmup_records_read", "Requests run.", "model_path", "status")
_LOGGED = _counter(_SERVING + "request_log_count", "Requests for the log.", "model_name", "status_code")

# Of our own. Those under way and waiting are of all servers of the process together.
QUEUED = _gauge("longtail_serving_queued_requests", "Requests that wait for a batch.")
GRPC = _gauge("longtail_serving_grpc_in_flight", "gRPC calls under way.")
REST = _gauge("longtail_serving_rest_in_flight", "REST requests under way.")
REASONS = ("queue_full", "expired", "cancelled", "too_large", "too_many", "too_slow", "unauthenticated")
_REFUSED = _counter("longtail_serving_refused", "Requests that were refused or given up.", "reason")
_refused = {reason: _REFUSED.labels(reason) for reason in REASONS}


def request(model: str, api: str, entrypoint: str, code: grpc.StatusCode, seconds: float) -> None:
    """Counts an answered request, and times it where it was answered well.

    Args:
      model: its name; empty where no such model serves, as clients must not make up labels.
      api: "Predict" over gRPC; "predict", or empty for a status, over REST.
      entrypoint: "GRPC" or "REST".
      code: how it ended.
      seconds: how long it took.
    """
    _REQUESTS.labels(model, code.name).inc()
    if code is grpc.StatusCode.OK:
        _LATENCY.labels(model, api, entrypoint).observe(seconds * _MICROS)


@contextlib.contextmanager
def counted(model: str, api: str, entrypoint: str) -> Iterator[None]:
    """Counts the request that is answered in the block; see `request`."""
    began, code = time.perf_counter(), grpc.StatusCode.INTERNAL
    try:
        yield
        code = grpc.StatusCode.OK
    except request_errors.RequestError as error:
        code = error.code
        raise
    except asyncio.CancelledError:
        code = grpc.StatusCode.CANCELLED
        raise
    finally:
        request(model, api, entrypoint, code, time.perf_counter() - began)


def batch(model: str, rows: Sequence[int], waited_s: Sequence[float], run_s: float) -> None:
    """Counts a batch: each request's rows and wait for it, and the model's time."""
    _RUNS.inc()
    _PROCESSED_SIZE.observe(sum(rows))
    runtime = _RUNTIME.labels(model, "Predict", "TF1")
    for count, waited in zip(rows, waited_s, strict=True):
        _INPUT_SIZE.observe(count)
        _QUEUING.observe(waited * _MICROS)
        runtime.observe((waited + run_s) * _MICROS)


def loaded(path: str, ok: bool, seconds: float) -> None:
    """Counts a try to load the version at `path`."""
    _LOADS.labels(path, "success" if ok else "fail").inc()
    if ok:
        _LOAD_LATENCY.labels(path).inc(round(seconds * _MICROS))


def warmed(path: str, code: grpc.StatusCode, records: int, seconds: float) -> None:
    """Counts the warm-up of the version at `path`."""
    _WARM_UP.labels(path, code.name).observe(seconds * _MICROS)
    _WARM_UP_RECORDS.labels(path, code.name).inc(records)


def logged(model: str, code: grpc.StatusCode) -> None:
    """Counts a request that was written to the request log, or could not be."""
    _LOGGED.labels(model, code.name).inc()


def refused(reason: str) -> None:
    """Counts a request that was refused or given up; `reason` is one of `REASONS`."""
    _refused[reason].inc()


def page() -> bytes:
    """All of it, as Prometheus reads it. TF Serving's counters do not end in `_total`, as prometheus_client's do."""
    return _TF_TOTAL.sub(rb"\1", prometheus_client.generate_latest(_registry))

"""What the server counts and times, as Prometheus reads it: under TF Serving's names where it has one for the thing.

One registry for the process, as TF Serving's is. TF Serving's metrics are written as its util/prometheus_exporter.cc
writes them, which prometheus_client would not (it puts `_total` behind counters); our own are prometheus_client's.
"""

import bisect
import itertools
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import grpc
import prometheus_client
from prometheus_client import core

PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MICROS = 1e6
_lock = threading.Lock()  # held for a few additions, or to write the page, never while anything waits


class _Counter:
    """A name of TF Serving's, and the labels that tell its cells apart."""

    all: "list[_Counter]" = []
    kind = "counter"

    def __init__(self, name: str, *labels: str):
        self.name = name.replace("/", ":")
        self._labels = labels
        self.cells: dict[tuple[str, ...], list[float]] = {}
        self.all.append(self)

    def add(self, values: tuple[str, ...], count: float = 1) -> None:
        self.cells.setdefault(values, [0])[0] += count

    def _text(self, values: tuple[str, ...], *more: str) -> str:
        escaped = [value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for value in values]
        return ",".join([f'{label}="{value}"' for label, value in zip(self._labels, escaped, strict=True)] + [*more])

    def lines(self, values: tuple[str, ...], cell: list[float]) -> Iterator[str]:
        yield f"{self.name}{{{self._text(values)}}} {cell[0]:.15g}"


class _Histogram(_Counter):
    """Its buckets are `count` powers of `growth` from `scale` on, and one for what is above; last is the sum."""

    kind = "histogram"

    def __init__(self, name: str, *labels: str, scale: float = 10, growth: float = 1.8, count: int = 33):
        super().__init__(name, *labels)
        self._limits = list(itertools.accumulate([growth] * (count - 1), lambda limit, by: limit * by, initial=scale))

    def observe(self, values: tuple[str, ...], found: Sequence[float]) -> None:
        cell = self.cells.setdefault(values, [0] * (len(self._limits) + 2))
        for value in found:
            cell[bisect.bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def lines(self, values: tuple[str, ...], cell: list[float]) -> Iterator[str]:
        limits = [f"{limit:g}" for limit in self._limits] + ["+Inf"]
        counts = [int(count) for count in itertools.accumulate(cell[:-1])]
        for limit, count in zip(limits, counts, strict=True):
            bound = f'le="{limit}"'
            yield f"{self.name}_bucket{{{self._text(values, bound)}}} {count}"
        yield f"{self.name}_sum{{{self._text(values)}}} {cell[-1]:.15g}"
        yield f"{self.name}_count{{{self._text(values)}}} {counts[-1]}"


_SERVING, _SESSION = "/tensorflow/serving/", "/tensorflow/serving/batching_session/"
_SIZES = {"scale": 1.0, "growth": 2.0, "count": 14}
# servables/tensorflow/util.cc
_REQUESTS = _Counter(_SERVING + "request_count", "model_name", "status")
_REQUEST_LATENCY = _Histogram(_SERVING + "request_latency", "model_name", "API", "entrypoint")
_RUNTIME_LATENCY = _Histogram(_SERVING + "runtime_latency", "model_name", "API", "runtime")
# batching/batching_session.cc, batching/batching_util.h
_QUEUING = _Histogram(_SESSION + "queuing_latency", "thread_pool_name", scale=100, growth=1.2, count=52)
_RUNS = _Counter(_SESSION + "wrapped_run_count")
_INPUT_SIZE = _Histogram(_SESSION + "input_batch_size", **_SIZES)  # type: ignore[arg-type]
_PROCESSED_SIZE = _Histogram(_SESSION + "processed_batch_size", **_SIZES)  # type: ignore[arg-type]
_PADDING = _Histogram(_SESSION + "padding_size", "execution_batch_size", **_SIZES)  # type: ignore[arg-type]
# tensorflow/cc/saved_model/loader.cc
_LOADS = _Counter("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
_LOAD_LATENCY = _Counter("/tensorflow/cc/saved_model/load_latency", "model_path")
# servables/tensorflow/saved_model_warmup_util.cc, core/request_logger.cc
_WARM_UP = _Histogram(_SERVING + "model_warmup_latency", "model_path", "status")
_WARM_UP_RECORDS = _Counter(_SERVING + "model_warmup_records_read", "model_path", "status")
_LOGGED = _Counter(_SERVING + "request_log_count", "model_name", "status_code")

# Of our own.
REASONS = ("queue_full", "expired", "cancelled", "too_large", "too_many", "too_slow", "unauthenticated")
_refused = dict.fromkeys(REASONS, 0)
_gauges: dict[tuple[str, str], list[Callable[[], float]]] = {}


class _Ours:
    """What TF Serving does not tell. A gauge is asked for when somebody reads it; of several servers', their sum."""

    def collect(self) -> Iterator[core.Metric]:
        told = core.CounterMetricFamily(
            "longtail_serving_refused", "Requests that were refused or given up.", labels=["reason"]
        )
        for reason, count in _refused.items():
            told.add_metric([reason], count)
        yield told
        for (name, documentation), functions in list(_gauges.items()):
            yield core.GaugeMetricFamily(name, documentation, value=sum(function() for function in list(functions)))


_registry = prometheus_client.CollectorRegistry()
_registry.register(_Ours())
prometheus_client.ProcessCollector(registry=_registry)


def request(model: str, api: str, entrypoint: str, code: grpc.StatusCode, seconds: float) -> None:
    """Counts an answered request, and times it where it was answered well.

    Args:
      model: its name; empty where no such model serves, as clients must not make up labels.
      api: "Predict" over gRPC; "predict", or empty for a status, over REST.
      entrypoint: "GRPC" or "REST".
      code: how it ended.
      seconds: how long it took.
    """
    with _lock:
        _REQUESTS.add((model, code.name))
        if code is grpc.StatusCode.OK:
            _REQUEST_LATENCY.observe((model, api, entrypoint), (seconds * _MICROS,))


def batch(model: str, rows: Sequence[int], size: int, waited_s: Sequence[float], run_s: float) -> None:
    """Counts a batch of `size` rows, padding among them: each request's rows and wait for it, and the model's time."""
    with _lock:
        _RUNS.add(())
        _INPUT_SIZE.observe((), rows)
        _PROCESSED_SIZE.observe((), (size,))
        _PADDING.observe((str(size),), (size - sum(rows),))
        _QUEUING.observe(("model_server_batch_threads",), [waited * _MICROS for waited in waited_s])
        _RUNTIME_LATENCY.observe((model, "Predict", "TF1"), [(waited + run_s) * _MICROS for waited in waited_s])


def loaded(path: str, ok: bool, seconds: float) -> None:
    """Counts a try to load the version at `path`."""
    with _lock:
        _LOADS.add((path, "success" if ok else "fail"))
        if ok:
            _LOAD_LATENCY.add((path,), round(seconds * _MICROS))


def warmed(path: str, code: grpc.StatusCode, records: int, seconds: float) -> None:
    """Counts the warm-up of the version at `path`."""
    with _lock:
        _WARM_UP.observe((path, code.name), (seconds * _MICROS,))
        _WARM_UP_RECORDS.add((path, code.name), records)


def logged(model: str, code: grpc.StatusCode, count: int = 1) -> None:
    """Counts requests that were written to the request log, or could not be."""
    with _lock:
        _LOGGED.add((model, code.name), count)


def refused(reason: str) -> None:
    """Counts a request that was refused or given up; `reason` is one of `REASONS`."""
    with _lock:
        _refused[reason] += 1


def gauge(name: str, documentation: str, function: Callable[[], float]) -> Callable[[], None]:
    """Shows what `function` gives whenever somebody reads the metrics, until what this returns is called."""
    with _lock:
        functions = _gauges.setdefault((name, documentation), [])
        functions.append(function)

    def remove() -> None:
        with _lock:
            functions[:] = [each for each in functions if each is not function]

    return remove


def page() -> bytes:
    """All of it, as Prometheus reads it."""
    text: list[str] = []
    with _lock:
        for metric in sorted(_Counter.all, key=lambda metric: metric.name):
            text.append(f"# TYPE {metric.name} {metric.kind}")
            text += (line for values, cell in metric.cells.items() for line in metric.lines(values, cell))
    return "\n".join([*text, ""]).encode() + prometheus_client.generate_latest(_registry)

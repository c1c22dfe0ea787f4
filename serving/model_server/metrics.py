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

_lock = threading.Lock()  # held for a few additions, never while anything waits
_metrics: list["_Counter | _Histogram"] = []


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class _Metric:
    """A name of TF Serving's, and the labels that tell its cells apart."""

    kind = ""

    def __init__(self, name: str, *labels: str):
        self.name = name.replace("/", ":")
        self._labels = labels

    def _text(self, values: tuple[str, ...]) -> str:
        return ",".join(f'{label}="{_escaped(value)}"' for label, value in zip(self._labels, values, strict=True))


class _Counter(_Metric):
    kind = "counter"

    def __init__(self, name: str, *labels: str):
        super().__init__(name, *labels)
        self.cells: dict[tuple[str, ...], int] = {}
        _metrics.append(self)

    def add(self, values: tuple[str, ...], count: int = 1) -> None:
        self.cells[values] = self.cells.get(values, 0) + count

    def copy(self) -> dict[tuple[str, ...], int]:
        return self.cells.copy()

    def lines(self, cells: dict[tuple[str, ...], int]) -> Iterator[str]:
        for values, count in cells.items():
            yield f"{self.name}{{{self._text(values)}}} {count}"


class _Histogram(_Metric):
    """Its buckets are `count` powers of `growth` from `scale` on, and one for what is above."""

    kind = "histogram"

    def __init__(self, name: str, *labels: str, scale: float, growth: float, count: int):
        super().__init__(name, *labels)
        self._limits = list(itertools.accumulate([growth] * (count - 1), lambda limit, by: limit * by, initial=scale))
        self.cells: dict[tuple[str, ...], list[float]] = {}  # the buckets, and last the sum
        _metrics.append(self)

    def add(self, values: tuple[str, ...], found: Sequence[float]) -> None:
        cell = self.cells.get(values)
        if cell is None:
            cell = self.cells[values] = [0] * (len(self._limits) + 2)
        for value in found:
            cell[bisect.bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def copy(self) -> dict[tuple[str, ...], list[float]]:
        return {values: cell.copy() for values, cell in self.cells.items()}

    def lines(self, cells: dict[tuple[str, ...], list[float]]) -> Iterator[str]:
        names = [f"{limit:g}" for limit in self._limits] + ["+Inf"]
        for values, (*buckets, total) in cells.items():
            text = self._text(values)
            counts = [int(count) for count in itertools.accumulate(buckets)]
            for name, count in zip(names, counts, strict=True):
                yield f'{self.name}_bucket{{{text + "," if text else ""}le="{name}"}} {count}'
            yield f"{self.name}_sum{{{text}}} {total:.15g}"
            yield f"{self.name}_count{{{text}}} {counts[-1]}"


def _latency(name: str, *labels: str) -> _Histogram:
    return _Histogram(name, *labels, scale=10, growth=1.8, count=33)


def _sizes(name: str, *labels: str) -> _Histogram:
    return _Histogram(name, *labels, scale=1, growth=2, count=14)


# servables/tensorflow/util.cc
_REQUESTS = _Counter("/tensorflow/serving/request_count", "model_name", "status")
_REQUEST_LATENCY = _latency("/tensorflow/serving/request_latency", "model_name", "API", "entrypoint")
_RUNTIME_LATENCY = _latency("/tensorflow/serving/runtime_latency", "model_name", "API", "runtime")
# batching/batching_session.cc, batching/batching_util.h
_QUEUING = _Histogram(
    "/tensorflow/serving/batching_session/queuing_latency", "thread_pool_name", scale=100, growth=1.2, count=52
)
_RUNS = _Counter("/tensorflow/serving/batching_session/wrapped_run_count")
_INPUT_SIZE = _sizes("/tensorflow/serving/batching_session/input_batch_size")
_PROCESSED_SIZE = _sizes("/tensorflow/serving/batching_session/processed_batch_size")
_PADDING = _sizes("/tensorflow/serving/batching_session/padding_size", "execution_batch_size")
# tensorflow/cc/saved_model/loader.cc
_LOADS = _Counter("/tensorflow/cc/saved_model/load_attempt_count", "model_path", "status")
_LOAD_LATENCY = _Counter("/tensorflow/cc/saved_model/load_latency", "model_path")
# servables/tensorflow/saved_model_warmup_util.cc
_WARM_UP = _latency("/tensorflow/serving/model_warmup_latency", "model_path", "status")
_WARM_UP_RECORDS = _Counter("/tensorflow/serving/model_warmup_records_read", "model_path", "status")
# core/request_logger.cc
_LOGGED = _Counter("/tensorflow/serving/request_log_count", "model_name", "status_code")

_THREAD_POOL = ("model_server_batch_threads",)

# Of our own.
REASONS = ("queue_full", "expired", "cancelled", "too_large", "too_many", "too_slow", "unauthenticated")
_refused = dict.fromkeys(REASONS, 0)
_gauges: dict[tuple[str, str], list[Callable[[], float]]] = {}


class _Ours:
    """What TF Serving does not tell. A gauge is asked for when somebody reads it; of several servers', their sum."""

    def collect(self) -> Iterator[core.Metric]:
        family = core.CounterMetricFamily(
            "longtail_serving_refused", "Requests that were refused or given up.", labels=["reason"]
        )
        for reason, count in _refused.items():
            family.add_metric([reason], count)
        yield family
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
            _REQUEST_LATENCY.add((model, api, entrypoint), (seconds * _MICROS,))


def batch(model: str, rows: Sequence[int], size: int, waited_s: Sequence[float], run_s: float) -> None:
    """Counts a batch that was run.

    Args:
      model: its name.
      rows: rows of each request in it.
      size: rows that were run, the padding among them.
      waited_s: how long each request waited for the batch, seconds.
      run_s: how long the model took, seconds.
    """
    with _lock:
        _RUNS.add(())
        _INPUT_SIZE.add((), rows)
        _PROCESSED_SIZE.add((), (size,))
        _PADDING.add((str(size),), (size - sum(rows),))
        _QUEUING.add(_THREAD_POOL, [waited * _MICROS for waited in waited_s])
        _RUNTIME_LATENCY.add((model, "Predict", "TF1"), [(waited + run_s) * _MICROS for waited in waited_s])


def loaded(path: str, ok: bool, seconds: float) -> None:
    """Counts a try to load the version at `path`."""
    with _lock:
        _LOADS.add((path, "success" if ok else "fail"))
        if ok:
            _LOAD_LATENCY.add((path,), round(seconds * _MICROS))


def warmed(path: str, code: grpc.StatusCode, records: int, seconds: float) -> None:
    """Counts the warm-up of the version at `path`."""
    with _lock:
        _WARM_UP.add((path, code.name), (seconds * _MICROS,))
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
    with _lock:
        found = [(metric, metric.copy()) for metric in _metrics]
    lines: list[str] = []
    for metric, cells in sorted(found, key=lambda pair: pair[0].name):
        lines += f"# TYPE {metric.name} {metric.kind}", *metric.lines(cells)  # type: ignore[arg-type]  # its own
    return "\n".join([*lines, ""]).encode() + prometheus_client.generate_latest(_registry)

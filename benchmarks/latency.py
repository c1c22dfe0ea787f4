"""How long answers of the model server take: the first one, at half load, and around a change of version."""

import os
import statistics
import time

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc

from longtail.benchmarks import bench_server
from longtail.benchmarks import server_process
from longtail.benchmarks import timing
from longtail.benchmarks import workload
from longtail.models import errors

FIRST_TARGET = 2.5
HALF_LOAD_TARGET = 3.0

_AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_LOAD_S = 120.0
_LATER = 50  # requests whose median the first one is held against
_STARTS, _PUSHES = 2, 4


class Asker:
    """A client that asks one thing after the other, and times it."""

    def __init__(self, address: str):
        self._channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        self._predict = self._channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def wait_for(self, version: int, timeout_s: float = _LOAD_S) -> float:
        """Seconds until the server says that `version` is available.

        Raises:
          WorkError: it does not within `timeout_s` seconds.
        """
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = workload.MODEL
        started = time.monotonic()
        while (waited := time.monotonic() - started) < timeout_s:
            answer = self._model.GetModelStatus(request, wait_for_ready=True, timeout=timeout_s)
            states = answer.model_version_status
            if any(state.version == version and state.state == _AVAILABLE for state in states):
                return waited
            time.sleep(0.02)
        raise errors.WorkError(f"version {version} did not become available in {timeout_s:g} s")

    def seconds(self, body: bytes) -> float:
        """How long the answer to a request takes."""
        started = time.perf_counter()
        self._predict(body)
        return time.perf_counter() - started

    def first_to_median(self, body: bytes) -> tuple[float, float]:
        """Seconds of the first request from now on, and its ratio to the median of those after it."""
        first = self.seconds(body)
        return first, first / statistics.median(self.seconds(body) for _ in range(_LATER))

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def first_rows(bench: bench_server.BenchServer) -> list[dict]:
    """The first request after the warm-up: of servers just started, and of versions just pushed."""
    body = workload.grpc_body(bench.photographs[:1])
    started = []
    for _ in range(_STARTS):
        with server_process.ServerProcess(bench.serve_arguments()) as server:
            asker = Asker(server.grpc_address)
            asker.wait_for(1)
            started.append(asker.first_to_median(body))
            if len(started) == _STARTS:
                pushed = [_of_push(bench, asker, version) for version in range(2, 2 + _PUSHES)]
            asker.close()
    return [
        *_first_row(f"{bench.kind}: first request of a server", started),
        *_first_row(f"{bench.kind}: first request of a pushed version", pushed),
    ]


def _of_push(bench: bench_server.BenchServer, asker: Asker, version: int) -> tuple[float, float]:
    workload.push(os.path.join(bench.model, "1"), bench.model, version)
    asker.wait_for(version)
    return asker.first_to_median(workload.grpc_body(bench.photographs[:1], version))


def _first_row(name: str, found: list[tuple[float, float]]) -> list[dict]:
    median = statistics.median
    seconds, ratios = zip(*found, strict=True)
    return [
        timing.row(f"{name}, of {len(found)}", 1e3 * median(seconds), "ms", median(ratios), FIRST_TARGET),
        timing.row(f"{name}, the worst of {len(found)}", 1e3 * max(seconds), "ms", max(ratios)),
    ]


def half_load_rows(
    bench: bench_server.BenchServer, case: bench_server.Case, rate: float, rounds: int, seconds: float
) -> list[dict]:
    """p50 and p99 of calls that come at random, at `rate` a second; medians over the rounds."""
    found = []
    for _ in range(rounds):
        calls = bench.loaded(bench.plan(case, seconds, rate))["calls"]
        found.append(np.percentile(1e3 * calls[:, 1], [50, 99]))
    p50, p99 = np.median(found, axis=0)
    ratio = float(np.median([after / before for before, after in found]))
    name = f"{bench.kind}: gRPC, 1 image a call, half load ({rate:.0f} calls/s)"
    return [
        timing.row(f"{name}: p50", float(p50), "ms"),
        timing.row(f"{name}: p99, and to p50", float(p99), "ms", ratio, HALF_LOAD_TARGET),
    ]

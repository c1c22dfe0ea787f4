"""Long load on the model server while versions change under it: failures, memory, and latency around each change.

    python -m tests.load.soak --seconds 600 --samples soak.jsonl
"""

import argparse
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from longtail.benchmarks import bench_server
from longtail.benchmarks import latency
from longtail.benchmarks import serve
from longtail.benchmarks import server_process
from longtail.benchmarks import timing
from longtail.benchmarks import workload
from longtail.models import errors

LOAD = 0.7  # of the calls a second that 64 clients in a circle get, if nothing else is asked for
GROWTH_TARGET = 1.03
WORST_TARGET_MS = 700.0  # of an answer, while a version changes and right after

_REST = bench_server.Case("REST, 1 image a call", 1, 0, 64, rest=True)
_REST_SHARE = 0.05  # of the calls
# TensorFlow says so of an optimization that does not fit the model, and goes on without it.
_FAILURE = r"^(?!.*meta_optimizer).*(?:Traceback|failed|lost)"
_PROBES = 5  # of what the server can
_SETTLE_S = 60.0  # until memory is to be flat
_AFTER_S = 2.0  # an answer that is due so long after a version became available is still around its change


class Samples:
    """A line for every second and every event of the soak: kept, and written to a file as they come."""

    def __init__(self, path: str):
        self._file = open(path, "w", encoding="utf-8", buffering=1) if path else None  # noqa: SIM115 (see close)
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def write(self, **what: Any) -> None:
        """Adds a line; `at`, a moment of the monotonic clock, becomes seconds since the start."""
        what["at"] = round(what.get("at", time.monotonic()) - self._started, 3)
        with self._lock:
            if self._file is not None:
                self._file.write(json.dumps(what) + "\n")

    def close(self) -> None:
        """Ends the file."""
        if self._file is not None:
            self._file.close()


class Memory:
    """What the server has in RAM, second by second."""

    def __init__(self, pid: int):
        self._pid = pid
        self._started = time.monotonic()
        self.found: list[tuple[float, int]] = []

    def read(self) -> int:
        """Bytes now."""
        resident = server_process.resident_bytes(self._pid)
        self.found.append((time.monotonic() - self._started, resident))
        return resident


def growth(found: Sequence[tuple[float, int]], settle_s: float, window_s: float) -> tuple[float, float]:
    """Bytes in the first window after settling, and how many times that the highest window after it has.

    A window's figure is its lower quartile: a version that is loaded while the old one serves takes memory for a while,
    at every change alike.
    """
    windows: dict[int, list[int]] = {}
    for at, resident in found:
        if at >= settle_s:
            windows.setdefault(int((at - settle_s) // window_s), []).append(resident)
    whole = [windows[number] for number in sorted(windows) if 2 * len(windows[number]) > len(windows[0])]
    lower = [float(np.percentile(each, 25)) for each in whole]
    return lower[0], max(lower) / lower[0]


def around(calls: np.ndarray, changes: Sequence[tuple[float, float]]) -> np.ndarray:
    """Which calls, of [moment due, seconds], were due between a push and a little after the version was available."""
    due = calls[:, 0]
    found = np.zeros(len(due), bool)
    for pushed, available in changes:
        found |= (due >= pushed) & (due <= available + _AFTER_S)
    return found


class Soak:
    """The soak of one running server.

    Args:
      bench: whose server runs.
      seconds: how long.
      swap_every: seconds between two pushes.
      samples: takes what happens.
    """

    def __init__(self, bench: bench_server.BenchServer, seconds: float, swap_every: float, samples: Samples):
        self._bench, self._seconds, self._swap_every, self._samples = bench, seconds, swap_every, samples
        self._asker = latency.Asker(bench.server.grpc_address)
        self.memory = Memory(bench.server.pid)
        self.changes: list[tuple[float, float]] = []
        self.pushed = 0

    def run(self, rate: float) -> list[dict[str, Any]]:
        """What the load generators counted, that of gRPC first."""
        plans = {
            "gRPC": self._bench.plan(serve.SINGLE, self._seconds, rate * (1.0 - _REST_SHARE)),
            "REST": self._bench.plan(_REST, self._seconds, rate * _REST_SHARE),
        }
        with futures.ThreadPoolExecutor() as pool:
            loads = [pool.submit(self._bench.loaded, plan, self._told(name)) for name, plan in plans.items()]
            self._swap(lambda: all(load.done() for load in loads))
            counted = [load.result() for load in loads]
        self._asker.close()
        return counted

    def _told(self, name: str) -> Callable[[dict[str, Any]], None]:
        def told(line: dict[str, Any]) -> None:
            about = {"resident_mib": self.memory.read() >> 20} if name == "gRPC" else {}
            self._samples.write(kind=name, **about, **line)

        return told

    def _swap(self, done: Callable[[], bool]) -> None:
        """Pushes a version every so often, until the load is over."""
        version, due = 1, time.monotonic()
        while True:
            due += self._swap_every
            while time.monotonic() < due:
                if done():
                    return
                time.sleep(0.1)
            version += 1
            self.pushed += 1
            self._change(version)

    def _change(self, version: int) -> None:
        model = self._bench.model
        shutil.rmtree(os.path.join(model, str(version - 2)), ignore_errors=True)
        workload.push(os.path.join(model, str(version - 1)), model, version)
        pushed = time.monotonic()
        self._samples.write(at=pushed, event=f"version {version} is pushed")
        try:
            self._asker.wait_for(version, self._swap_every)
        except (errors.WorkError, grpc.RpcError) as error:
            self._samples.write(event=f"version {version}: {error}")
            return
        self.changes.append((pushed, time.monotonic()))
        self._samples.write(event=f"version {version} is available")


def _rows(soak: Soak, counted: list[dict[str, Any]], seconds: float) -> list[dict]:
    calls = counted[0]["calls"]
    due, took = calls[:, 0], 1e3 * calls[:, 1]
    near = around(calls, soak.changes)
    settle_s = min(_SETTLE_S, seconds / 4.0)
    resident, grown = growth(soak.memory.found, settle_s, min(_SETTLE_S, (seconds - settle_s) / 3.0))
    rows = [
        timing.row("requests", sum(load["answered"] for load in counted), "requests"),
        timing.row("failed requests", sum(load["failed"] for load in counted), "requests", target=0),
        timing.row(
            "changes of version, of those pushed",
            len(soak.changes),
            "changes",
            len(soak.changes) / soak.pushed,
            1.0,
            at_least=True,
        ),
        timing.row("memory once settled, and its most later", resident / 2**20, "MiB", grown, GROWTH_TARGET),
    ]
    for name, chosen in (("away from changes", ~near), ("around changes", near)):
        for share in (50, 99):
            rows.append(timing.row(f"gRPC {name}: p{share}", float(np.percentile(took[chosen], share)), "ms"))
    firsts = [took[due >= available][0] for _, available in soak.changes if (due >= available).any()]
    first = float(np.median(firsts)) if firsts else None
    longest = max((available - pushed for pushed, available in soak.changes), default=None)
    return [
        *rows,
        timing.row("gRPC away from changes: the worst", float(took[~near].max()), "ms"),
        timing.row("gRPC around changes: the worst", float(took[near].max()), "ms", target=WORST_TARGET_MS),
        timing.row(
            f"gRPC first answer after a change, of {len(firsts)}: to the p50 away from changes",
            first,
            "ms",
            None if first is None else first / float(np.median(took[~near])),
            latency.FIRST_TARGET,
        ),
        timing.row("from a push until it is available, the longest", longest, "s"),
    ]


def run(seconds: float = 600.0, swap_every: float = 20.0, samples: str = "", load: float = LOAD) -> dict:
    """Asks `longtail serve` for seconds on end, at a share of what it can, while versions are pushed and removed.

    Calls come at random, whatever the answers take, over gRPC and a few over REST. At most two versions are in the
    folder.

    Args:
      seconds: how long.
      swap_every: seconds between two pushes.
      samples: file to write a line a second to; empty for none.
      load: the share.

    Returns:
      {"bench", "machine", "results"} of the benchmarks' common form, and the first failures.

    Raises:
      errors.UsageError: a number out of range.
      errors.WorkError: the server does not start, or answers nothing.
    """
    if not 0.0 < swap_every <= seconds / 4.0:
        raise errors.UsageError(
            f"soak: it needs at least four changes of version. Received: seconds={seconds}, "
            f"swap-every={swap_every}"
        )
    machine = timing.machine()
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_server.BenchServer("mobilenet", folder, images=64)
        with bench.running(settings=()):
            probes = [bench.loaded(bench.plan(serve.SINGLE, 5.0)) for _ in range(_PROBES)]
            # A shared machine is quick now and slow then, and what it can in its best seconds is no measure.
            rate = load * float(np.median([probe["answered"] / probe["seconds"] for probe in probes]))
            log = Samples(samples)
            soak = Soak(bench, seconds, swap_every, log)
            counted = soak.run(rate)
            log.close()
            rows = _rows(soak, counted, seconds)
            told = len(re.findall(_FAILURE, bench.server.log(), re.MULTILINE))
    rows.insert(0, timing.row(f"calls a second, {load:.0%} of capacity", rate, "calls/s"))
    rows.append(timing.row("failures in the server's log", told, "lines", target=0))
    failures = [failure for each in counted for failure in each["failures"]]
    return {"bench": "serve-soak", "machine": machine, "results": rows, "failures": failures}


def main() -> None:
    """Prints the report as one JSON object."""
    words = argparse.ArgumentParser(description=run.__doc__)
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--swap-every", type=float, default=20.0)
    words.add_argument("--samples", default="")
    words.add_argument("--load", type=float, default=LOAD)
    print(json.dumps(run(**vars(words.parse_args()))))


if __name__ == "__main__":
    main()

"""What serving costs: images a CPU second through `longtail serve`, against the same model run alone beside it."""

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence

import numpy as np

from longtail.benchmarks import bench_server
from longtail.benchmarks import latency
from longtail.benchmarks import timing
from longtail.models import errors

RAW_BATCH = 64
UNIT = "images/CPU-s"

SINGLE = bench_server.Case("gRPC, 1 image a call, 64 clients, a connection each", 1, 64, 64, target=0.62)
CASES = {
    "mobilenet": (
        bench_server.Case("gRPC, 1 image a call, 32 clients, a connection each", 1, 32, 32, target=0.62),
        SINGLE,
        bench_server.Case("gRPC, 1 image a call, 64 clients, one connection", 1, 64, 1),
        bench_server.Case("gRPC, 4 images a call, 16 clients, a connection each", 4, 16, 16),
        bench_server.Case("gRPC, 16 images a call, 8 clients, a connection each", 16, 8, 8, target=0.94),
        bench_server.Case("gRPC, 64 images a call, 4 clients, a connection each", 64, 4, 4),
        bench_server.Case("REST, 1 image a call, 64 clients, a connection each", 1, 64, 64, rest=True, target=0.85),
    ),
    "conv4": (  # so quick a model that serving is most of the cost: for the slope, with nothing asked of it
        dataclasses.replace(SINGLE, target=None),
        bench_server.Case("gRPC, 16 images a call, 8 clients, a connection each", 16, 8, 8),
    ),
}
_BATCHES = {"mobilenet": (1, 4, 16, RAW_BATCH, 256), "conv4": (1, 16, RAW_BATCH)}


@dataclasses.dataclass
class Rounds:
    """Images a CPU second, and of served cases calls a second of the clock: what -> number of the round -> figure."""

    raw: dict[bench_server.Setting, dict[int, float]]
    served: dict[str, dict[int, float]]
    calls: dict[str, dict[int, float]]

    @property
    def best(self) -> bench_server.Setting:
        """The setting whose median is the raw limit."""
        every_core = [setting for setting in self.raw if setting != bench_server.ONE_CORE]
        return max(every_core, key=lambda setting: statistics.median(self.raw[setting].values()))

    def ratio(self, name: str, setting: bench_server.Setting) -> float:
        """Median over the rounds of a case's figure to that of the model alone in the same round."""
        limits = self.raw[setting]
        return statistics.median(value / limits[turn] for turn, value in self.served[name].items())


def measure(bench: bench_server.BenchServer, cases: Sequence[bench_server.Case], rounds: int, seconds: float) -> Rounds:
    """Measures the cases and the raw limit in rounds, each in an order of its own.

    Cases of which nothing is asked are in every second round only.
    """
    settings = (*bench_server.EVERY_CORE, bench_server.ONE_CORE)
    names = [case.name for case in cases]
    found = Rounds({key: {} for key in settings}, {key: {} for key in names}, {key: {} for key in names})
    for case in cases:
        bench.check(case, bench.loaded(bench.plan(case, 0.2)))
    for setting in settings:
        bench.raw(setting, RAW_BATCH, 0.2)
    rng = np.random.default_rng(0)
    for turn in range(rounds):
        asked = [case for case in cases if case.target is not None or turn % 2 == 0]
        works: list[bench_server.Case | bench_server.Setting] = [*asked, *settings]
        for at in rng.permutation(len(works)):
            work = works[at]
            if isinstance(work, bench_server.Setting):
                found.raw[work][turn] = bench.raw(work, RAW_BATCH, seconds / 2)
                continue
            counted = bench.loaded(bench.plan(work, seconds))
            found.served[work.name][turn] = counted["answered"] * work.images / counted["cpu_s"]
            found.calls[work.name][turn] = counted["answered"] / counted["seconds"]
    return found


def rows_of(kind: str, cases: Sequence[bench_server.Case], found: Rounds) -> list[dict]:
    """Results of the rounds."""
    rows = [
        timing.row(f"{kind}: {name}, batch {RAW_BATCH} ({setting})", statistics.median(figures.values()), UNIT)
        for name, setting in (("raw limit, every core at work", found.best), ("raw, one core", bench_server.ONE_CORE))
        if (figures := found.raw.get(setting))
    ]
    for case in cases:
        value = statistics.median(found.served[case.name].values())
        ratio = found.ratio(case.name, found.best)
        rows.append(timing.row(f"{kind}: {case.name}", value, UNIT, ratio, case.target, at_least=True))
        if found.raw.get(bench_server.ONE_CORE):
            ratio = found.ratio(case.name, bench_server.ONE_CORE)
            rows.append(timing.row(f"{kind}: {case.name}: to one core", value, UNIT, ratio))
        rows.append(timing.row(f"{kind}: {case.name}: an image", 1e6 / value, "CPU-us"))
    return rows


def _batch_rows(bench: bench_server.BenchServer, setting: bench_server.Setting, seconds: float) -> list[dict]:
    """How the model's own cost grows with the batch."""
    rows = []
    for batch in _BATCHES[bench.kind]:
        bench.raw(setting, batch, 0.1)
        cost = 1e6 / bench.raw(setting, batch, seconds / 2)
        rows.append(timing.row(f"{bench.kind}: raw, batch {batch}: an image", cost, "CPU-us"))
    return rows


def _of_model(kind: str, folder: str, images: int, rounds: int, seconds: float) -> list[dict]:
    bench = bench_server.BenchServer(kind, folder, images)
    cases = CASES[kind]
    with bench.running():
        rows = latency.first_rows(bench) if kind == "mobilenet" else []
        found = measure(bench, cases, rounds, seconds)
        rows = [*rows_of(kind, cases, found), *_batch_rows(bench, found.best, seconds), *rows]
        if kind == "mobilenet":
            rate = statistics.median(found.calls[SINGLE.name].values()) / 2.0
            rows += latency.half_load_rows(bench, SINGLE, rate, 3, 2.0 * seconds)
    rows.append(timing.row(f"{kind}: from the start of a server until it is ready", bench.server.ready_s, "s"))
    rows.append(timing.row(f"{kind}: failed requests", bench.failed, "requests", target=0))
    return rows


def run(rounds: int = 4, seconds: float = 2.0, images: int = 64, kinds: Sequence[str] = tuple(CASES)) -> dict:
    """Serves each model by `longtail serve` at its default settings, and measures it beside the model alone.

    Figures are images a CPU second of the server process, by the kernel's count, whoever else runs on the machine; the
    load generator is a process of its own. `ratio` is the median over the rounds of a case to the raw limit of the same
    round. Latency is of the clock, and says something only on a machine that is quiet.

    Args:
      rounds: how often each case is measured.
      seconds: how long each time.
      images: how many different ones are sent.
      kinds: of models, see `CASES`.

    Returns:
      {"bench", "machine", "results"} of the benchmarks' common form.

    Raises:
      errors.UsageError: a number out of range.
      errors.WorkError: the server does not start, answers nothing, or answers wrong.
    """
    if rounds < 1 or seconds <= 0.0 or images < 1 or not set(kinds) <= set(CASES):
        raise errors.UsageError(
            f"bench serve: needs rounds >= 1, seconds > 0, images >= 1, models of {', '.join(CASES)}. "
            f"Received: rounds={rounds}, seconds={seconds}, images={images}, models={', '.join(kinds)}"
        )
    machine = timing.machine()
    results = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            results += _of_model(kind, folder, images, rounds, seconds)
    return {"bench": "serve", "machine": machine, "results": results}

"""A model to be measured: exported as pushed models are, served by `longtail serve`, and run alone beside it."""

import contextlib
import dataclasses
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np

from longtail.benchmarks import load
from longtail.benchmarks import raw
from longtail.benchmarks import server_process
from longtail.benchmarks import workload
from longtail.models import errors

_CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Setting:
    """Threads of a session, and callers of it at once."""

    intra: int
    inter: int
    callers: int

    def __str__(self) -> str:
        return f"intra {self.intra}, inter {self.inter}, {self.callers} callers"


# The limit is the best of those that keep every core at work, as a server under load does. A core alone is a little
# faster: it has the caches and the memory to itself.
EVERY_CORE = tuple(dict.fromkeys([Setting(1, -1, _CORES), Setting(_CORES, _CORES, 1)]))
ONE_CORE = Setting(1, -1, 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to ask, and what share of the raw limit it is to reach; none is asked for where `target` is None."""

    name: str
    images: int
    clients: int
    connections: int
    rest: bool = False
    target: float | None = None


class Raw:
    """A model alone in a process of its own."""

    def __init__(self, folder: str, images: str, intra: int, inter: int):
        command = [sys.executable, "-m", raw.__name__, folder, images, str(intra), str(inter)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def images_a_second(self, batch: int, seconds: float, callers: int) -> float:
        """Images a CPU second of its process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(batch, seconds, callers, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise errors.WorkError("the process that measures the raw limit ended; what it said stands above")
        measured = json.loads(line)
        return measured["images"] / measured["cpu_s"]

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()


class BenchServer:
    """One model: exported, served, and loaded alone in processes beside the server.

    Args:
      kind: of `workload.export_model`.
      folder: a fresh one, for all that is made.
      images: how many different ones are sent.
    """

    def __init__(self, kind: str, folder: str, images: int):
        self.kind = kind
        self.folder = folder
        self.model = os.path.join(folder, workload.MODEL)
        self.photographs = workload.photographs(images, workload.export_model(kind, self.model))
        self._alone = raw.load(os.path.join(self.model, "1"), 1, -1)
        self.failed = 0

    def serve_arguments(self) -> list[str]:
        """What a user gives to `longtail serve`: the model, and all else as it is by default."""
        return ["--model", self.model, "--model-name", workload.MODEL]

    @contextlib.contextmanager
    def running(self, settings: Sequence[Setting] = (*EVERY_CORE, ONE_CORE)) -> Iterator[None]:
        """The server, and a process of the model alone for the threads of each of `settings`, in the block."""
        images = workload.write_bodies(os.path.join(self.folder, "images"), self.photographs)
        version = os.path.join(self.model, "1")
        with server_process.ServerProcess(self.serve_arguments()) as self.server, contextlib.ExitStack() as stack:
            threads = {(setting.intra, setting.inter) for setting in settings}
            self._raws = {pair: Raw(version, images, *pair) for pair in threads}
            for process in self._raws.values():
                stack.callback(process.stop)
            yield

    def plan(self, case: Case, seconds: float, rate: float = 0.0) -> load.Plan:
        """What the load generator is to do."""
        pictures = self.photographs
        calls = [[pictures[(at + row) % len(pictures)] for row in range(case.images)] for at in range(len(pictures))]
        body = workload.rest_body if case.rest else workload.grpc_body
        path = os.path.join(self.folder, f"{'rest' if case.rest else 'grpc'}-{case.images}")
        if not os.path.exists(path):
            workload.write_bodies(path, list(map(body, calls)))
        return load.Plan(
            self.server.rest_address if case.rest else self.server.grpc_address,
            self.server.pid,
            path,
            f"{path}.result",
            case.clients,
            case.connections,
            seconds,
            rate=rate,
            rest=workload.REST_PATH if case.rest else "",
        )

    def loaded(self, plan: load.Plan, told: Callable[[dict], None] = lambda line: None) -> dict:
        """Runs a load generator, and returns what it counted; failed calls add to `failed`.

        Args:
          plan: what it is to do.
          told: called with what it says every second, where calls have a rate.

        Raises:
          WorkError: it ended before its time, or the server answered nothing.
        """
        command = [sys.executable, "-m", load.__name__, json.dumps(dataclasses.asdict(plan))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                told(json.loads(line))
        if process.returncode:
            raise errors.WorkError(f"the load generator ended with status {process.returncode}; why stands above")
        with open(plan.result, "rb") as file:
            counted = pickle.load(file)
        self.failed += counted["failed"]
        if not counted["answered"]:
            raise errors.WorkError(f"the server answered nothing: {counted['failures'][:1]}")
        return counted

    def check(self, case: Case, counted: dict) -> None:
        """Raises WorkError where answers are not what the model says without any server."""
        embeddings = workload.rest_embeddings if case.rest else workload.grpc_embeddings
        for at, answer in itertools.islice(counted["answers"].items(), 4):
            images = [self.photographs[(at + row) % len(self.photographs)] for row in range(case.images)]
            wanted = self._alone(np.array(images, object))[0]
            if not np.allclose(embeddings(answer), wanted, atol=1e-3):
                raise errors.WorkError(f"{case.name}: the server's embeddings are not the model's")

    def raw(self, setting: Setting, batch: int, seconds: float) -> float:
        """Images a CPU second of the model alone."""
        return self._raws[setting.intra, setting.inter].images_a_second(batch, seconds, setting.callers)

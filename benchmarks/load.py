"""Load on a model server, in a process of its own, without TensorFlow: `python -m longtail.benchmarks.load PLAN`."""

import asyncio
import collections
import dataclasses
import json
import pickle
import re
import sys
import threading
import time
from typing import Protocol

import grpc
import numpy as np
import uvloop

from longtail.benchmarks import server_process

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # or all channels of a process share one connection
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_TIMEOUT_S = 60.0
_FAILURES_TOLD = 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to ask, how hard and how long.

    Attributes:
      address: HOST:PORT of the server.
      pid: its process, whose CPU time is read.
      bodies: file of the requests' bytes, a pickled list; they are sent in turn.
      result: file to write what was counted to, a pickled dictionary.
      clients: how many wait for an answer at once, each asking again as soon as it has one; where `rate` is given, as
        many as it takes.
      connections: the clients share them.
      seconds: how long is counted.
      settle_s: how long the load runs before.
      rate: calls a second at moments of a Poisson process, whatever the answers take; 0 for `clients` in a circle.
      rest: path to POST to; empty for gRPC's Predict.
    """

    address: str
    pid: int
    bodies: str
    result: str
    clients: int
    connections: int
    seconds: float
    settle_s: float = 0.5
    rate: float = 0.0
    rest: str = ""


class Refused(Exception):
    """An answer over REST that is none of success."""


class Connection(Protocol):
    """One connection to the server."""

    async def ask(self, body: bytes) -> bytes:
        """The answer to a request."""


class GrpcConnection:
    """A channel with a connection of its own."""

    def __init__(self, plan: Plan):
        self._channel = grpc.aio.insecure_channel(plan.address, options=_OPTIONS)
        self._predict = self._channel.unary_unary(_PREDICT)

    async def ask(self, body: bytes) -> bytes:
        """The answer to a request."""
        return await self._predict(body, timeout=_TIMEOUT_S)


class RestConnection:
    """HTTP/1.1 over a socket that is kept open, a request at a time: costs this process less than any library."""

    def __init__(self, plan: Plan):
        self._head = (
            f"POST {plan.rest} HTTP/1.1\r\nHost: {plan.address}\r\nUser-Agent: longtail-bench\r\nAccept: */*\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        self._host, _, port = plan.address.rpartition(":")
        self._port = int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._one = asyncio.Lock()

    async def ask(self, body: bytes) -> bytes:
        """The answer to a request."""
        async with self._one:
            try:
                head, answer = await asyncio.wait_for(self._ask(body), _TIMEOUT_S)
            except BaseException:
                self._close()
                raise
            if b"connection: close" in head:
                self._close()
        if b" 200 " not in head[:16]:
            raise Refused(f"{head[9:12].decode()}: {answer[:200].decode(errors='replace')}")
        return answer

    async def _ask(self, body: bytes) -> tuple[bytes, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write((self._head % len(body)).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\ncontent-length: *(\d+)", head)
        return head, await reader.readexactly(int(length[1]) if length else 0)

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Load:
    """The clients of a plan, and what became of their calls."""

    def __init__(self, plan: Plan, bodies: list[bytes]):
        self._plan, self._bodies = plan, bodies
        make = RestConnection if plan.rest else GrpcConnection
        self._connections: list[Connection] = [make(plan) for _ in range(plan.connections)]
        self._asked = 0
        self._ended = False
        self._under_way: set[asyncio.Task] = set()
        self.answered = 0
        self.failures: list[dict[str, object]] = []
        self.calls: list[tuple[float, float]] = []
        self.first: dict[int, bytes] = {}  # the first answer to each request, for who asks whether it is right

    async def _ask(self, due: float | None = None) -> None:
        number = self._asked
        self._asked += 1
        started = time.monotonic() if due is None else due
        which = number % len(self._bodies)
        try:
            answer = await self._connections[number % len(self._connections)].ask(self._bodies[which])
        except Exception as error:  # whatever it was, this call failed, and is told of
            said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else repr(error)
            self.failures.append({"at": started, "after_s": round(time.monotonic() - started, 4), "error": said})
            return
        self.answered += 1
        self.first.setdefault(which, answer)
        if due is not None:
            self.calls.append((due, time.monotonic() - due))

    async def _client(self) -> None:
        while not self._ended:
            await self._ask()

    def _begin(self, due: float | None = None) -> None:
        task = asyncio.ensure_future(self._client() if due is None else self._ask(due))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _arrive(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins calls at random moments. A thread of its own, for event loops sleep in whole milliseconds."""
        rng = np.random.default_rng(0)
        due = time.monotonic()
        while not self._ended:
            due += rng.exponential(1.0 / self._plan.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            loop.call_soon_threadsafe(self._begin, due)

    async def run(self) -> dict[str, object]:
        """Connects, settles, counts, and waits for the answers that are still to come.

        Returns:
          "answered", "cpu_s", "own_cpu_s" and "seconds" of what was counted, "failed" and the first "failures",
          "answers" to the first of each request, and, where calls have a rate, "calls": an array of [moment due,
          seconds to the answer].
        """
        plan = self._plan
        await asyncio.gather(*(self._ask() for _ in self._connections))
        arrivals = threading.Thread(target=self._arrive, args=[asyncio.get_running_loop()], daemon=True)
        if plan.rate:
            arrivals.start()
        else:
            for _ in range(plan.clients):
                self._begin()
        await asyncio.sleep(plan.settle_s)
        self.calls.clear()
        before = self._reading()
        until = time.monotonic() + plan.seconds
        while (left := until - time.monotonic()) > 0 or not self._went(before):
            told = len(self.calls), len(self.failures)
            await asyncio.sleep(min(1.0, max(0.01, left)))
            if plan.rate:
                self._tell(*told)
        counted = {name: now - before[name] for name, now in self._reading().items()}
        self._ended = True
        if plan.rate:
            await asyncio.to_thread(arrivals.join)
        while self._under_way:
            await asyncio.wait(self._under_way)
        return {
            **counted,
            "failed": len(self.failures),
            "failures": self.failures[:_FAILURES_TOLD],
            "answers": self.first,
            "calls": np.array(self.calls, np.float64).reshape(-1, 2),
        }

    def _went(self, before: dict[str, float]) -> bool:
        """Whether any call was answered since, or any failed: a window without one has nothing to say."""
        return self.answered > before["answered"] or bool(self.failures)

    def _reading(self) -> dict[str, float]:
        return {
            "answered": self.answered,
            "cpu_s": server_process.cpu_seconds(self._plan.pid),
            "own_cpu_s": time.process_time(),
            "seconds": time.monotonic(),
        }

    def _tell(self, calls: int, failures: int) -> None:
        """A line on what became of the calls of the last second."""
        took = [1e3 * seconds for _, seconds in self.calls[calls:]]
        line: dict[str, object] = {"at": time.monotonic(), "answered": len(took)}
        if took:
            p50, p99, worst = np.percentile(took, [50, 99, 100]).round(2).tolist()
            line |= {"p50_ms": p50, "p99_ms": p99, "worst_ms": worst}
        errors = collections.Counter(str(failure["error"])[:160] for failure in self.failures[failures:])
        print(json.dumps({**line, "failed": errors.total(), "errors": dict(errors)}), flush=True)


def main() -> None:
    """Runs the plan that is the one argument, JSON; where calls have a rate, it says every second how they went."""
    plan = Plan(**json.loads(sys.argv[1]))
    with open(plan.bodies, "rb") as file:
        bodies = pickle.load(file)
    uvloop.install()

    async def run() -> dict[str, object]:
        return await Load(plan, bodies).run()

    counted = asyncio.run(run())
    with open(plan.result, "wb") as result:
        pickle.dump(counted, result)


if __name__ == "__main__":
    main()

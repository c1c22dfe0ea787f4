"""Thousands of hostile requests to the model server: none may end it, hang it, or be told of its code.

    python -m tests.load.hostile --count 10000
"""

import argparse
import collections
import contextlib
import http.client
import json
import re
import socket
import tempfile
import time
from collections.abc import Iterable
from concurrent import futures

import grpc
import numpy as np

from longtail.benchmarks import bench_server
from longtail.benchmarks import server_process
from longtail.benchmarks import timing
from longtail.benchmarks import workload
from longtail.models import errors
from tests.load import hostile_requests

# What a client would see of the server's insides.
TRACE = re.compile(rb'Traceback|File "|\.py\b|\.cc:|site-packages|\{\{function_node|\[\[\{\{node|0x[0-9a-f]{8}')

FAULTS = {
    "trace": "answers with a stack trace or a line of code",
    "internal": "answers that say an internal error",
    "no answer": "requests without an answer",
}

_WAIT_S = 60.0  # an answer that takes longer is none
_RAW_WAIT_S = 0.2  # raw bytes need no answer: what matters is what comes after
_CLIENTS = 16
_TOLD = 20
# A message that is no proto is INTERNAL too, by gRPC's own convention.
_INTERNAL = re.compile(rb"Internal error|Exception calling|UNKNOWN|HTTP 500|^500")


class Sender:
    """Sends hostile requests to a server, and says what it answered to each.

    Args:
      server: the process.
    """

    def __init__(self, server: server_process.ServerProcess):
        options = [
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._server = server
        self._channel = grpc.insecure_channel(server.grpc_address, options=options)

    def send(self, request: hostile_requests.Request) -> tuple[str, bytes]:
        """The code of the answer, and all of its text: of an answer that is none of failure, nothing."""
        if request.surface == hostile_requests.GRPC:
            return self._grpc(request)
        if request.surface == hostile_requests.REST:
            return self._rest(request)
        return self._raw(request)

    def _grpc(self, request: hostile_requests.Request) -> tuple[str, bytes]:
        try:
            self._channel.unary_unary(request.target)(request.data, timeout=_WAIT_S)
        except grpc.RpcError as error:
            trailing = b" ".join(str(entry).encode() for entry in error.trailing_metadata() or ())
            return error.code().name, (error.details() or "").encode() + trailing
        return "OK", b""

    def _rest(self, request: hostile_requests.Request) -> tuple[str, bytes]:
        connection = http.client.HTTPConnection(self._server.rest_address, timeout=_WAIT_S)
        method, _, path = request.target.partition(" ")
        try:
            connection.request(method, path, request.data, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
        except TimeoutError:
            return "no answer", b""
        except (http.client.HTTPException, OSError) as error:  # refused while it was sent: nobody was told anything
            return f"closed ({type(error).__name__})", b""
        finally:
            connection.close()
        return str(reply.status), b"" if reply.status == 200 else text

    def _raw(self, request: hostile_requests.Request) -> tuple[str, bytes]:
        rest = request.surface == hostile_requests.RAW_REST
        host, _, port = (self._server.rest_address if rest else self._server.grpc_address).rpartition(":")
        found = b""
        with (
            contextlib.suppress(OSError),  # no more to read, or closed on us
            socket.create_connection((host, int(port)), timeout=_WAIT_S) as sent,
        ):
            sent.sendall(request.data)
            sent.settimeout(_RAW_WAIT_S)
            while piece := sent.recv(65536):
                found += piece
        return "HTTP " + found[9:12].decode(errors="replace") if found[:5] == b"HTTP/" else "raw", found

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


class Verdict:
    """What became of the requests."""

    def __init__(self) -> None:
        self.codes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[tuple[str, str, str, str]] = collections.Counter()

    def add(self, request: hostile_requests.Request, code: str, text: bytes) -> None:
        """Takes an answer."""
        self.codes[request.surface, code] += 1
        self.kinds[request.kind] += 1
        fault = ""
        if TRACE.search(text):
            fault = "trace"
        elif _INTERNAL.search(code.encode() + b" " + text):
            fault = "internal"
        elif code in ("no answer", "DEADLINE_EXCEEDED"):
            fault = "no answer"
        if fault:
            said = text.decode(errors="replace")[:300]
            self.faults[fault, f"{request.kind}: {request.target[:80]}", code, said] += 1

    def count(self, fault: str) -> int:
        """How many requests met this fault."""
        return sum(count for (found, *_), count in self.faults.items() if found == fault)


def attack(
    server: server_process.ServerProcess,
    requests: Iterable[hostile_requests.Request],
    verdict: Verdict,
    clients: int = _CLIENTS,
) -> None:
    """Sends all requests, `clients` at once; `verdict` takes the answers."""
    sender = Sender(server)
    with futures.ThreadPoolExecutor(clients) as pool:
        under_way = collections.deque()
        for request in requests:
            under_way.append((request, pool.submit(sender.send, request)))
            if len(under_way) >= 2 * clients:
                done, answer = under_way.popleft()
                verdict.add(done, *answer.result())
        for done, answer in under_way:
            verdict.add(done, *answer.result())
    sender.close()


def embeddings(bench: bench_server.BenchServer, image: bytes) -> np.ndarray:
    """The server's own embedding of an image, over gRPC and over REST."""
    with grpc.insecure_channel(bench.server.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        over_grpc = workload.grpc_embeddings(predict(workload.grpc_body([image]), timeout=_WAIT_S))
    connection = http.client.HTTPConnection(bench.server.rest_address, timeout=_WAIT_S)
    connection.request("POST", workload.REST_PATH, workload.rest_body([image]))
    over_rest = workload.rest_embeddings(connection.getresponse().read())
    connection.close()
    return np.concatenate([over_grpc, over_rest])


def report(bench: bench_server.BenchServer, count: int, seed: int) -> dict:
    """What `run` returns, of a server that runs."""
    machine = timing.machine()
    server, image = bench.server, bench.photographs[0]
    before = embeddings(bench, image)
    memory = [server_process.resident_bytes(server.pid)]
    hostile = iter(hostile_requests.Hostile(workload.MODEL, bench.photographs, seed))
    verdict = Verdict()
    started = time.monotonic()
    for part in np.array_split(np.arange(count), min(count, 10)):
        attack(server, [next(hostile) for _ in part], verdict)
        memory.append(server_process.resident_bytes(server.pid))
    seconds = time.monotonic() - started
    alive = server.process.poll() is None
    right = alive and bool(np.allclose(embeddings(bench, image), before, atol=1e-5))
    half = len(memory) // 2
    rows = [
        timing.row("hostile requests", count, "requests"),
        timing.row("the server ended", int(not alive), "times", target=0),
        timing.row("wrong answers after", int(not right), "answers", target=0),
        *(timing.row(name, verdict.count(fault), "requests", target=0) for fault, name in FAULTS.items()),
        timing.row("memory before", memory[0] / 2**20, "MiB"),
        timing.row("memory after, and to after the first half", memory[-1] / 2**20, "MiB", memory[-1] / memory[half]),
        timing.row("took", seconds, "s"),
    ]
    return {
        "bench": "serve-hostile",
        "machine": machine,
        "results": rows,
        "memory_mib": [round(resident / 2**20) for resident in memory],  # before, and after each tenth
        "codes": {f"{surface} {code}": number for (surface, code), number in sorted(verdict.codes.items())},
        "kinds": dict(sorted(verdict.kinds.items())),
        "faults": [
            {"fault": fault, "kind": kind, "code": code, "said": said, "times": times}
            for (fault, kind, code, said), times in verdict.faults.most_common(_TOLD)
        ],
    }


def run(count: int = 10_000, seed: int = 0) -> dict:
    """Sends hostile requests to `longtail serve`, then asks whether it still answers right.

    Args:
      count: how many requests.
      seed: of their mutations; the same seed sends the same requests.

    Returns:
      {"bench", "machine", "results"} of the benchmarks' common form, the answers' codes and the first faults.

    Raises:
      errors.UsageError: a number out of range.
      errors.WorkError: the server does not start.
    """
    if count < 1:
        raise errors.UsageError(f"hostile: count must be >= 1. Received: {count}")
    with tempfile.TemporaryDirectory() as folder:
        bench = bench_server.BenchServer("conv4", folder, images=16)
        with bench.running(settings=()):
            return report(bench, count, seed)


def main() -> None:
    """Prints the report as one JSON object."""
    words = argparse.ArgumentParser(description=run.__doc__)
    words.add_argument("--count", type=int, default=10_000)
    words.add_argument("--seed", type=int, default=0)
    print(json.dumps(run(**vars(words.parse_args()))))


if __name__ == "__main__":
    main()

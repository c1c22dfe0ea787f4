"""Serves in a process of its own and, once it has said where, does what it was told: `serve_then.py DEED OPTIONS`.

Prints one line of JSON: what `longtail serve` said, and whether the signal handlers are as they were. The signals are
the process's, and would end the tests too.
"""

import json
import signal
import sys

from longtail.pipeline.cli import serve
from longtail.serving import client
from tests.serving import conftest

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


def _ask(line: str) -> None:
    with client.Client(line.partition("gRPC ")[2].partition(",")[0], "tiny") as opened:
        opened.embed([conftest.encode(0)])
    signal.raise_signal(signal.SIGTERM)


DEEDS = {
    "terminate": lambda line: signal.raise_signal(signal.SIGTERM),
    "interrupt": lambda line: signal.raise_signal(signal.SIGINT),
    "ask": _ask,
}


def main() -> None:
    deed, options = sys.argv[1:]
    said: list[str] = []

    def echo(line):
        said.append(line)
        DEEDS[deed](line)

    serve.typer.echo = echo
    before = [signal.getsignal(number) for number in _NUMBERS]
    serve.serve(**json.loads(options), grpc_port=0, rest_port=0)
    print(json.dumps({"said": said, "as_before": [signal.getsignal(number) for number in _NUMBERS] == before}))


if __name__ == "__main__":
    main()

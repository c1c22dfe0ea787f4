"""Imports TFX once and forks for every command, since a process that imports it for itself takes half a minute.

A test that needs a real process (its signals, its exit status, a TensorFlow of its own) asks `tests.processes` for one.
Only modules are imported before the fork: TensorFlow's runtime starts in the child. The child is what `python -m MODULE
WORDS` would be, except that PYTHONPATH and the level of TensorFlow's log are those of the server.

Usage: python -m tests.fork_server DESCRIPTOR, of a Unix socket of packets that listens. It ends with its last client.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys

PRELOADED = (
    "longtail.pipeline.cli.app",
    "longtail.pipeline.local.run",
    "longtail.pipeline.kubeflow.entrypoint",
    "longtail.pipeline.kubeflow.rehearse.rehearsal",
    "longtail.serving.model_server.server",
)
PACKET = 1 << 17


def serve(listener: socket.socket) -> dict | None:
    """Forks a process for every request; returns the request in that process, and None here once no client is left."""
    clients: set[socket.socket] = set()
    while True:
        for ready in select.select([listener, *clients], [], [])[0]:
            if ready is listener:
                clients.add(listener.accept()[0])
                continue
            packet, descriptors, _, _ = socket.recv_fds(ready, PACKET, 4)
            if not packet:
                ready.close()
                clients.remove(ready)
            elif not os.fork():
                for one in (listener, *clients):
                    one.close()
                _become(descriptors)
                return json.loads(packet)
            for descriptor in descriptors:
                os.close(descriptor)
        if not clients:
            return None


def _become(descriptors: list[int]) -> None:
    """Returns in a child, whose standard streams are the first three; its parent stays to tell the last how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = descriptors
    pid = os.fork()
    if pid:
        os.write(told, f"{pid}\n".encode())
        for stream in streams:
            os.close(stream)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(told, f"{status}\n".encode())
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for descriptor in descriptors:
        os.close(descriptor)


def main() -> None:
    """Serves until nobody is left; in a forked process, runs what was asked for."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else the collector of every child would write to all that it shares with this process
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits here for a child
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        return
    if request["new_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["folder"]
    module, *words = request["words"]
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

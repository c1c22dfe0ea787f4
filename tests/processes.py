"""Processes that have TFX imported when they start: what `subprocess` would give, by way of `tests.fork_server`."""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

ROOT = pathlib.Path(__file__).resolve().parents[1]


class Process:
    """A process as `subprocess.Popen` shows one; its pid is real, and only its parent is another."""

    def __init__(self, told: socket.socket, stdout, stderr, log: pathlib.Path):
        self._told = told.makefile("r")
        self.stdout, self.stderr = stdout, stderr
        pid = self._told.readline()
        assert pid, f"the fork server is gone; {log}: {log.read_text()[-2000:]}"
        self.pid = int(pid)
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        """Sends it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        """Its exit status, once it has ended; minus the signal that ended it."""
        if self.returncode is None:
            self.returncode = int(self._told.readline())
        return self.returncode


class Processes:
    """Starts processes; every test session has one server, whichever of its workers asks first.

    Args:
      folder: of the session, where its workers find the server.
    """

    def __init__(self, folder: pathlib.Path):
        self._log = folder / "fork-server.log"
        self._server: subprocess.Popen | None = None
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with open(folder / "fork-server.lock", "w") as lock, _address(folder) as address:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self._connection.connect(address)
            except (FileNotFoundError, ConnectionRefusedError):
                pathlib.Path(address).unlink(missing_ok=True)
                self._start(address)
                self._connection.connect(address)

    def _start(self, address: str) -> None:
        """Listens for the server, so that clients need not wait until it has imported everything."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(self._log, "w") as log:
            listener.bind(address)
            listener.listen()
            descriptor = listener.fileno()
            command = [sys.executable, "-m", "tests.fork_server", str(descriptor)]
            self._server = subprocess.Popen(
                command, cwd=ROOT, pass_fds=[descriptor], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def close(self) -> None:
        """Leaves the server, which ends with its last client."""
        self._connection.close()

    @contextlib.contextmanager
    def popen(self, *words, stdout=None, stderr=None, environment=None, new_session=False) -> Iterator[Process]:
        """A process that runs `python -m WORDS`; killed at the end, if it is still there.

        Args:
          *words: module and arguments.
          stdout: subprocess.PIPE to read it as text, a file to write it there, None for the tests' own.
          stderr: the same.
          environment: its variables; None for the tests' own.
          new_session: whether it leads a session, and with it a process group, of its own.
        """
        request = {
            "words": list(map(str, words)),
            "folder": os.getcwd(),
            "environment": dict(os.environ if environment is None else environment),
            "new_session": new_session,
        }
        (out, read_out), (err, read_err) = _stream(stdout, 1), _stream(stderr, 2)
        told, theirs = socket.socketpair()
        socket.send_fds(self._connection, [json.dumps(request).encode()], [0, out, err, theirs.fileno()])
        theirs.close()
        for descriptor in (out, err):
            os.close(descriptor)
        with told, read_out or contextlib.nullcontext(), read_err or contextlib.nullcontext():
            process = Process(told, read_out, read_err, self._log)
            try:
                yield process
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    process.wait()

    def run(self, *words) -> subprocess.CompletedProcess:
        """Runs `python -m WORDS` to its end; its standard output and error as text."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with self.popen(*words, stdout=out, stderr=err) as process:
                process.wait()
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(words, process.returncode, out.read(), err.read())


@contextlib.contextmanager
def _address(folder: pathlib.Path) -> Iterator[str]:
    """The server's address, by way of an open folder: a path to a socket has 108 bytes at most."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/fork-server"
    finally:
        os.close(descriptor)


def _stream(given, default: int) -> tuple[int, TextIO | None]:
    """The descriptor that a process is to have, and what to read it with."""
    if given == subprocess.PIPE:
        reader, writer = os.pipe()
        return writer, open(reader, encoding="utf-8")
    return os.dup(default if given is None else given.fileno()), None

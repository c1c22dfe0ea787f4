"""A model server in a process of its own, started as a user starts it, and what it costs by the kernel's count."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType

from longtail.models import errors

_READY = re.compile(r"gRPC (\S+), REST http://([^/\s]+)")
_STOP_S = 60.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, and of its children, living and gone."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # utime, stime and those of the children that have ended
    used = ticks / os.sysconf("SC_CLK_TCK")
    for child in _children(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since
            used += cpu_seconds(child)
    return used


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),  # the thread has ended since
            open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as file,
        ):
            found += map(int, file.read().split())
    return found


def resident_bytes(pid: int) -> int:
    """The memory a process has in RAM."""
    with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class ServerProcess:
    """`longtail serve` on free loopback ports. Also a context manager, which starts and stops it.

    Args:
      arguments: of `longtail serve`, but for the ports.
      environment: variables on top of this process's.

    Attributes:
      pid: of the server.
      grpc_address: HOST:PORT.
      rest_address: HOST:PORT.
      ready_s: seconds from its start until it took requests.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str] | None = None):
        console = os.path.join(os.path.dirname(sys.executable), "longtail")
        self._command = [console, "serve", *arguments, "--grpc-port", "0", "--rest-port", "0"]
        self._environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def start(self) -> None:
        """Returns when the server has said that it takes requests.

        Raises:
          WorkError: it ended instead; the last of its lines says why.
        """
        started = time.monotonic()
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._log, env=self._environment, text=True
        )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if ready := _READY.search(line):
                self.grpc_address, self.rest_address = ready.groups()
                self.ready_s = time.monotonic() - started
                return
        self.process.wait()
        last = (self.log().strip().splitlines() or ["it said nothing"])[-1]
        raise errors.WorkError(f"{' '.join(self._command)} did not start: {last}")

    def log(self) -> str:
        """What the server has written to standard error so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """The exit status, when it has ended; a server that does not end is killed."""
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def stop(self) -> int:
        """Asks the server to stop, and returns its exit status."""
        if self.process.poll() is None:
            self.ask_to_stop()
        return self.wait()

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

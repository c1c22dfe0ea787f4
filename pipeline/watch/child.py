"""A command in a process of its own: its words in a log, what it came to, and the signal that it is handed on."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from longtail.models import errors

LONGTAIL = (sys.executable, "-m", "longtail.pipeline.cli")

_ERROR, _STOPPED = "longtail: error: ", "longtail: stopped "


class Result(NamedTuple):
    """How a command ended.

    Attributes:
      exit_status: its own; 128 and the signal's number where one ended it.
      summary: the JSON object that it printed; None where it printed none.
      error: its one line of error; of a command that gave none, what ended it.
    """

    exit_status: int
    summary: dict[str, Any] | None
    error: str


def run(command: Sequence[str], log: str) -> Result:
    """Runs a command to its end.

    It leads a process group of its own, so that a terminal's Ctrl-C reaches it by way of this process alone, once.

    Args:
      command: program and arguments.
      log: file of its standard error, made if need be.

    Raises:
      errors.Stopped: this process was asked to stop. The command was asked too, and has ended.
    """
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "a", encoding="utf-8") as said, tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=said, start_new_session=True
        )
        try:
            status = process.wait()
        except errors.Stopped as stop:
            process.send_signal(stop.exit_status - 128)
            process.wait()
            stop.where = _last_words(log, _STOPPED).partition("; ")[0] or stop.where
            raise
        printed.seek(0)
        summary = _object(printed.read())
    if status == 0:
        return Result(0, summary, "")
    if status < 0:
        return Result(128 - status, summary, f"ended by {signal.Signals(-status).name}; {log} has what it said before")
    return Result(status, summary, _last_words(log, _ERROR) or f"exit status {status} without a reason; look at {log}")


def check(command: Sequence[str]) -> None:
    """Runs a command that is to be right before a longer one is begun.

    Raises:
      errors.UsageError: it ended with an error, which is passed on.
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = [line.removeprefix(_ERROR) for line in done.stderr.splitlines() if line.startswith(_ERROR)]
        raise errors.UsageError(lines[-1] if lines else f"{shlex.join(command)}: exit status {done.returncode}")


def _last_words(log: str, beginning: str) -> str:
    """The rest of the last line that begins so; "" where none does."""
    with open(log, encoding="utf-8", errors="backslashreplace") as file:
        lines = [line.strip() for line in file if line.startswith(beginning)]
    return lines[-1].removeprefix(beginning) if lines else ""


def _object(text: str) -> dict[str, Any] | None:
    """The JSON object in the last line, None where that is none."""
    try:
        found = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return None
    return found if isinstance(found, dict) else None

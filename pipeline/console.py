"""What a person sees while a command works: our own lines on the terminal, everybody else's in a log file."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import rich.console
import rich.progress

log = logging.getLogger("longtail")


def out() -> rich.console.Console:
    """Standard output for results. Where it is no terminal lines are as long as they are: none is cut or wrapped."""
    return rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 200)


class _Lines(logging.Handler):
    def __init__(self, console: rich.console.Console, traces: bool):
        super().__init__(logging.INFO)
        self._console = console
        self._traces = traces

    def emit(self, record):
        lines = [record.getMessage()]
        if self._traces and record.exc_info:  # a fault of ours, of which whoever asked was told nothing
            lines.append(logging.Formatter().formatException(record.exc_info))
        self._console.print("  " + "\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _handled(*handlers: logging.Handler) -> Iterator[None]:
    """longtail's own logger speaks to `handlers` alone while the block runs."""
    before = log.propagate, log.level
    for handler in handlers:
        log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
        log.propagate, level = before
        log.setLevel(level)


@contextlib.contextmanager
def lines() -> Iterator[rich.console.Console]:
    """Shows longtail's own log lines on standard error while the block runs."""
    console = rich.console.Console(stderr=True)
    with _handled(_Lines(console, traces=True)):
        yield console


@contextlib.contextmanager
def quiet(log_file: str) -> Iterator[rich.console.Console]:
    """Sends standard error, TensorFlow's and TFX's logs with it, to `log_file`; yields a console on the real one.

    File descriptor 2 itself is moved, since TensorFlow's C++ writes to it directly.
    """
    os.makedirs(os.path.dirname(log_file), exist_ok=True)
    sys.stderr.flush()
    real = os.dup(2)
    stream = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8")
    console = rich.console.Console(file=stream, force_terminal=os.isatty(real))
    to_file = logging.StreamHandler(sys.stderr)
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with open(log_file, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
    try:
        with _handled(_Lines(console, traces=False), to_file), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield console
    finally:
        sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)
        stream.close()


class Steps:
    """One line a finished component; on a terminal also a bar that names the one at work."""

    def __init__(self, console: rich.console.Console):
        self._console = console
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *exception):
        self._bar.stop()

    def start(self, name: str, position: int, total: int) -> None:
        """Names the component at work."""
        self._bar.update(self._task, description=name, completed=position, total=total)
        if not self._console.is_terminal:
            self._console.print(f"{name} ...", highlight=False)

    def end(self, name: str, seconds: float, cached: bool) -> None:
        """Says that a component is done, and whether it had been done before."""
        took = "cached" if cached else f"{seconds:.1f} s"
        self._console.print(f"{name:<24} {took}", highlight=False)

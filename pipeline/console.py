"""What a person sees while a command works: our own lines on the terminal, everybody else's in a log file."""

import contextlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator

import rich.console
import rich.progress

from longtail.models import errors
from longtail.models.training import position as position_lib

log = logging.getLogger("longtail")


def out() -> rich.console.Console:
    """Standard output for results. Where it is no terminal lines are as long as they are: none is cut or wrapped."""
    return rich.console.Console(highlight=False, width=None if sys.stdout.isatty() else 200)


class _Printable(logging.Formatter):
    """Makes each message one line without control characters: names of files are in it."""

    def formatMessage(self, record):  # noqa: N802 - logging's name
        return errors.shown(super().formatMessage(record))


class _Lines(logging.Handler):
    def __init__(self, console: rich.console.Console, traces: bool):
        super().__init__(logging.INFO)
        self._console = console
        self._traces = traces  # of a fault of ours, of which whoever asked was told nothing
        self.setFormatter(_Printable())

    def emit(self, record):
        text = self.format(record) if self._traces else errors.shown(record.getMessage())
        kind = "warning: " if record.levelno == logging.WARNING else ""
        self._console.print(f"  {kind}{text}", highlight=False, markup=False, soft_wrap=True)


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

    Raises:
      errors.WorkError: an error that nobody foresaw, whose traceback is in `log_file`.
    """
    os.makedirs(os.path.dirname(log_file), exist_ok=True)
    sys.stderr.flush()
    real = os.dup(2)
    stream = os.fdopen(os.dup(real), "w", buffering=1, encoding="utf-8")
    console = rich.console.Console(file=stream, force_terminal=os.isatty(real))
    to_file = logging.StreamHandler(sys.stderr)
    to_file.setFormatter(_Printable("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with open(log_file, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
    try:
        with _handled(_Lines(console, traces=False), to_file), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield console
    except Exception as error:
        if hasattr(error, "exit_status"):
            raise
        with open(log_file, "a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        raise errors.WorkError(f"{errors.first_line(error)}; {log_file} has its traceback") from error
    finally:
        with contextlib.suppress(OSError):  # a full disk has been said already
            sys.stderr.flush()
        os.dup2(real, 2)
        os.close(real)
        stream.close()


class _TimeLeft(rich.progress.ProgressColumn):
    """How long a task goes on, of those whose steps take about as long as each other."""

    max_refresh = 0.5

    def render(self, task):
        if task.total is None or not task.fields.get("even") or task.time_remaining is None:
            return ""
        return f"{position_lib.duration(task.time_remaining)} left"


class Steps:
    """One line a finished component; on a terminal also bars: the component at work, its epoch, all its epochs."""

    def __init__(self, console: rich.console.Console):
        self._console = console
        self._bar = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(20),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            _TimeLeft(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600,
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._watching = position_lib.watched(self._train)
        self._name = ""
        self._position: position_lib.Position | None = None

    def __enter__(self):
        self._watching.__enter__()
        self._bar.start()
        return self

    def __exit__(self, kind, error, trace):
        self._bar.stop()
        self._watching.__exit__(None, None, None)
        if isinstance(error, errors.Stopped) and self._name:
            error.where = self._where()

    def _where(self):
        if self._position and self._position.done:
            return f"after epoch {self._position.done} of {self._position.epochs}"
        return f"in {self._name}"

    def start(self, name: str, position: int, total: int) -> None:
        """Names the component at work."""
        self._name, self._position = name, None
        self._show("component", name, position, total)
        if not self._console.is_terminal:
            self._console.print(f"{name} ...", highlight=False)

    def end(self, name: str, seconds: float, cached: bool) -> None:
        """Says that a component is done, and whether it had been done before."""
        took = "cached" if cached else f"{seconds:.1f} s"
        self._console.print(f"{name:<24} {took}", highlight=False)

    def _show(self, bar, description, completed, total, **fields):
        if bar not in self._tasks:
            self._tasks[bar] = self._bar.add_task(description, total=total, completed=completed, **fields)
        self._bar.update(self._tasks[bar], description=description, completed=completed, total=total)

    def _hide(self, bar):
        if bar in self._tasks:
            self._bar.remove_task(self._tasks.pop(bar))

    def _train(self, position):
        self._position = position
        if position.step == 0:  # each epoch has a clock of its own
            self._hide("epoch")
        if position.done == position.epochs:
            self._hide("epochs")
            return
        done, total = position.done * position.steps + position.step, position.epochs * position.steps
        self._show("epochs", "all epochs", done, total, even=True)
        self._show("epoch", f"epoch {position.done + 1}/{position.epochs}", position.step, position.steps, even=True)

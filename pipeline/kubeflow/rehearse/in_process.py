"""Runs a container's Python command in this process: imports are shared, and nothing else of a step stays behind."""

import contextlib
import importlib
import logging
import os
import random
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterator
from collections.abc import Sequence
from typing import TextIO

# Packages whose modules do their work as `__main__` alone; a stranger's would do it when it is imported, and again.
_ENTRY_POINTS = ("longtail.pipeline.", "tfx.")


def can_run(command: Sequence[str]) -> bool:
    """Whether the command is a Python module."""
    return len(command) > 2 and os.path.basename(command[0]).startswith("python") and command[1] == "-m"


def can_preload(command: Sequence[str]) -> bool:
    """Whether importing the command's module is known to run nothing and was not done yet."""
    return can_run(command) and command[2].startswith(_ENTRY_POINTS) and command[2] not in sys.modules


def preload(module: str, log_file: str) -> None:
    """Imports a command's module, and with it what it needs."""
    with _output_to(log_file):
        importlib.import_module(module)


def run(command: Sequence[str], env: dict[str, str], folder: str, log_file: str) -> int:
    """Runs `python -m MODULE ARGS` as a process of its own would.

    Args:
      command: the command.
      env: variables added to the environment.
      folder: the current folder while it runs.
      log_file: what is printed and logged goes to the end of this file.

    Returns:
      Its exit status; what it raised is in the log.
    """
    with _output_to(log_file), _loggers_kept(), _state_kept(env, folder, [command[2], *command[3:]]):
        try:
            runpy.run_module(command[2], run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            if stop.code is None or isinstance(stop.code, int):
                return stop.code or 0
            print(stop.code, file=sys.stderr)
            return 1
        except Exception:  # noqa: BLE001 - whatever a step raises is its failure, and told by its log
            traceback.print_exc()
            return 1
    return 0


@contextlib.contextmanager
def _output_to(log_file: str) -> Iterator[None]:
    """Standard output and error go to a file: Python's objects, the descriptors below them, and logging."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    real = os.dup(1), os.dup(2)
    with open(log_file, "a", encoding="utf-8", buffering=1) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        sys.stdout = sys.stderr = file
        try:
            with _logging_to(file, streams):
                yield
        finally:
            sys.stdout, sys.stderr = streams
            for descriptor, copy in zip((1, 2), real, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


@contextlib.contextmanager
def _logging_to(file: TextIO, streams: tuple[TextIO, ...]) -> Iterator[None]:
    """Whatever logs to one of `streams` logs to `file`, and the root logger as in a container, through absl alone."""
    from absl import logging as absl_logging

    absl_handler = absl_logging.get_absl_handler()
    moved = [(absl_handler.python_handler, absl_handler.python_handler.stream)]
    moved += [(handler, handler.stream) for handler in _stream_handlers() if handler.stream in streams]
    before, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers[:] = [absl_handler]
    for handler, _ in moved:
        handler.setStream(file)
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)
        for handler in _stream_handlers():
            if handler.stream is file:  # of a module that was imported meanwhile; the file is about to be closed
                handler.setStream(streams[1])
        logging.root.handlers[:] = before
        logging.root.setLevel(level)


def _stream_handlers() -> list[logging.StreamHandler]:
    """Those of all loggers but the root."""
    found = [handler for logger in _loggers() for handler in logger.handlers]
    return [handler for handler in found if isinstance(handler, logging.StreamHandler)]


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]


@contextlib.contextmanager
def _loggers_kept() -> Iterator[None]:
    """Puts back handlers and levels; a logger that is new keeps its level alone, which its module may have set."""
    before = {logger: (logger.handlers[:], logger.level) for logger in _loggers()}
    disabled = logging.root.manager.disable
    try:
        yield
    finally:
        for logger in _loggers():
            logger.handlers[:], level = before.get(logger, ([], logger.level))
            logger.setLevel(level)
        logging.disable(disabled)


@contextlib.contextmanager
def _state_kept(env: dict[str, str], folder: str, argv: list[str]) -> Iterator[None]:
    """Gives a step its own folder, environment, arguments and flags; puts back what was there."""
    from absl import flags
    from absl.testing import flagsaver

    here, environment, arguments, path, modules = os.getcwd(), dict(os.environ), sys.argv, sys.path[:], set(sys.modules)
    flag_values = flagsaver.save_flag_values(flags.FLAGS)
    os.chdir(folder)
    os.environ.update(env)
    sys.argv = argv
    _forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runpy's, of a module that was imported before
        try:
            yield
        finally:
            flagsaver.restore_flag_values(flag_values, flags.FLAGS)
            sys.argv, sys.path[:] = arguments, path
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(here)
            _drop_modules(set(sys.modules) - modules)
            _forget()


def _drop_modules(names: set[str]) -> None:
    """Forgets modules that only the step could import, such as a user's own: the next may bring another version."""
    for top in {name for name in names if "." not in name}:
        here = getattr(sys.modules[top], "__file__", None)
        if here and not any(finder.find_spec(top, None) for finder in sys.meta_path):
            for name in [name for name in sys.modules if name.split(".")[0] == top]:
                del sys.modules[name]


def _forget() -> None:
    """Resets the global state of random numbers and of TensorFlow, where they are loaded."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        tf.keras.backend.clear_session()
        tf.keras.mixed_precision.set_global_policy("float32")
        tf.random.set_seed(None)
        tf.config.run_functions_eagerly(False)

"""Files that appear whole: written under another name, then renamed into place, on a disk or at any TensorFlow URI."""

import contextlib
import errno
import functools
import json
import os
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from longtail.models import errors

UNFINISHED = ".writing-"  # how the name of a file begins until it is whole

_FULL = (errno.ENOSPC, errno.EDQUOT)


class _FileSystem(NamedTuple):
    """What replaces a file."""

    open: Callable[..., Any]
    makedirs: Callable[[str], None]
    rename: Callable[[str, str], None]
    exists: Callable[[str], bool]
    remove: Callable[[str], None]


@contextlib.contextmanager
def replacing(path: str, unfinished: str = "") -> Iterator[str]:
    """Yields the name of a file to write; it becomes `path` at the end of the block, or is removed if that raises.

    A reader sees the old file or the new one, whole, however a writer ends and however many there are.

    Args:
      path: the file to make or replace; its folder is made if need be.
      unfinished: folder of the unfinished file, beside `path` where not given: for folders of which every file is read.
    """
    system = _file_system(path)
    folder = unfinished or os.path.dirname(path) or "."
    half = os.path.join(folder, f"{UNFINISHED}{uuid.uuid4().hex}")
    system.makedirs(folder)
    try:
        yield half
        system.rename(half, path)
    except BaseException:
        if system.exists(half):
            system.remove(half)
        raise


def write(path: str, content: str | bytes, unfinished: str = "") -> None:
    """Makes or replaces a file, a text as UTF-8; see `replacing`.

    Raises:
      errors.UsageError: the file cannot be written there.
      errors.WorkError: the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        with replacing(path, unfinished) as half, _file_system(path).open(half, "wb") as file:
            file.write(data)
    except Exception as error:
        raise _told(path, error) from error


def write_json(path: str, value: Any, indent: int | None = 1, unfinished: str = "") -> None:
    """Makes or replaces a file of JSON.

    Raises:
      errors.UsageError: the file cannot be written there.
      errors.WorkError: the disk is full.
    """
    write(path, f"{json.dumps(value, indent=indent)}\n", unfinished)


def check_place(option: str, path: str) -> None:
    """Raises errors.UsageError where `write` could make no local file: before the work whose outcome goes there.

    Args:
      option: what named the file, such as `--output`.
      path: the file; of a URI nothing is known before it is written.
    """
    if "://" in path:
        return
    if os.path.isdir(path):
        raise errors.UsageError(f"{option} {path}: cannot be written (it is a folder); name a file in it")
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise errors.UsageError(f"{option} {path}: cannot be written ({above} is no folder); name another file")
    if not os.access(above, os.W_OK | os.X_OK):
        raise errors.UsageError(f"{option} {path}: cannot be written (nor anything in {above}); name another file")


def _file_system(path: str) -> _FileSystem:
    """Python's own, which loads no TensorFlow; for a URI, TensorFlow's."""
    if "://" not in path:
        makedirs = functools.partial(os.makedirs, exist_ok=True)
        return _FileSystem(open, makedirs, os.replace, os.path.lexists, os.remove)
    import tensorflow as tf

    rename = functools.partial(tf.io.gfile.rename, overwrite=True)
    return _FileSystem(tf.io.gfile.GFile, tf.io.gfile.makedirs, rename, tf.io.gfile.exists, tf.io.gfile.remove)


def _told(path: str, error: Exception) -> Exception:
    """The error that says what to do; `error` itself where it is none of a file system."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return errors.WorkError(f"{path}: cannot be written ({error.strerror}); make room and run again")
        return errors.UsageError(f"{path}: cannot be written ({error.strerror}); name another file")
    if hasattr(error, "error_code"):  # of TensorFlow, which may not be loaded
        return errors.UsageError(f"{path}: cannot be written ({str(error).splitlines()[0]}); name another file")
    return error

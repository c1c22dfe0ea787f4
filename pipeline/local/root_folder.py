"""A root folder: held by one run at a time, its files replaced whole. Imports nothing heavy."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

from longtail.models import errors

REGISTRY = "registry"  # folder of a root: below it a folder for each recipe, with what its drift gate keeps


@contextlib.contextmanager
def hold(root: str) -> Iterator[None]:
    """Keeps a second run out of a root, which is made if need be; the lock goes with the process, however it ends.

    Raises:
      errors.UsageError: the root cannot be written, or another run holds it.
    """
    if "://" in root:
        raise errors.UsageError(f"--root {root}: a run on this machine keeps its root in a local folder")
    try:
        os.makedirs(root, exist_ok=True)
        file = open(os.path.join(root, ".lock"), "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise errors.UsageError(
            f"--root {root}: cannot be written ({error.strerror}); choose a folder of yours"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UsageError(
                f"--root {root}: another run is at work there; wait for it or choose another root"
            ) from error
        yield


def write_json(path: str, content: Any) -> None:
    """Writes JSON that appears complete, by rename; makes the folder.

    Raises:
      errors.UsageError: the file cannot be written there.
    """
    write_text(path, f"{json.dumps(content, indent=1)}\n")


def write_text(path: str, text: str) -> None:
    """Writes a text that appears complete, by rename; makes the folder.

    Raises:
      errors.UsageError: the file cannot be written there.
    """
    half = f"{path}.{uuid.uuid4().hex}.partial"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(half, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(half, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(half)
        raise errors.UsageError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def read_json(path: str) -> Any:
    """Reads JSON; None where there is no file.

    Raises:
      errors.WorkError: the file is not JSON.
    """
    if not os.path.exists(path):
        return None
    if os.path.isdir(path):
        raise errors.UsageError(f"{path}: is a folder; name a file")
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:  # JSON's and Unicode's errors are both
            raise errors.WorkError(f"{path}: not JSON ({error}); remove it and run again") from error

"""A root folder: held by one run at a time. Imports nothing heavy."""

import contextlib
import fcntl
import json
import os
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

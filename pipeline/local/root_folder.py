"""A root folder: held by one run at a time, its faults said. Imports nothing heavy."""

import contextlib
import fcntl
import json
import os
import re
import sqlite3
import urllib.parse
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from longtail.models import errors

REGISTRY = "registry"  # folder of a root: below it a folder for each recipe, with what its drift gate keeps
ARTIFACTS = "artifacts"  # folder of a root: what the steps of its runs made
STORE = "metadata.sqlite"  # of a root: ML Metadata's, which says what `ARTIFACTS` holds
LOCK_FILE, WATCH_LOCK_FILE = ".lock", ".watch.lock"  # of a root: held by the run, and by the watch, at work there
RECORDS = "records"  # folder of a root: what each run pinned and has spent, by its id
SUMMARY_FILE = "summary.json"
RUN_FILE = "run.json"  # what the last run was told, and why it stopped if it did
REPORT_FILE = "report.html"

BUSY = "another run is at work there"  # what a second run in a root is told

_GLOB = re.compile(r"[*?\[\\]")
_FULL = re.compile("No space left on device|database or disk is full|Disk quota exceeded|File too large")


@contextlib.contextmanager
def hold(root: str) -> Iterator[None]:
    """Keeps a second run out of a root, which is made if need be; the lock goes with the process, however it ends.

    Raises:
      errors.UsageError: the root cannot be written, or searched for files, or another run holds it.
      errors.WorkError: its metadata store is damaged, or its disk becomes full while it is held.
    """
    with _locked(root, LOCK_FILE, f"{BUSY}; wait for it or choose another root"):
        check_store(root)
        try:
            yield
        except Exception as error:
            full = next(filter(None, (_FULL.search(str(one)) for one in _chain(error))), None)
            if full is None:
                raise
            raise errors.WorkError(
                f"--root {root}: cannot be written any more ({full.group()}); make room on its disk, then the same "
                "command goes on"
            ) from error


@contextlib.contextmanager
def hold_watch(root: str) -> Iterator[None]:
    """Keeps a second watch out of a root, whose runs hold it by themselves; the lock goes with the process.

    Raises:
      errors.UsageError: the root cannot be written, or searched for files, or another watch holds it.
    """
    with _locked(root, WATCH_LOCK_FILE, "another watch is at work there; stop it or choose another root"):
        yield


def wait_for(root: str, say: Callable[[], None]) -> None:
    """Waits until no run is at work in a root, which is there; `say` is called where one is."""
    with open(os.path.join(root, LOCK_FILE), "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say()
            fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def _locked(root: str, name: str, held: str) -> Iterator[None]:
    """Holds a file of a root, which is made if need be."""
    if "://" in root:
        raise errors.UsageError(f"--root {root}: a run on this machine keeps its root in a local folder")
    if found := _GLOB.search(os.path.abspath(root)):
        raise errors.UsageError(
            f"--root {root}: its path has a {found.group()!r}, which searches for files would take for a pattern; "
            "choose another folder"
        )
    try:
        os.makedirs(root, exist_ok=True)
        file = open(os.path.join(root, name), "w", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise errors.UsageError(
            f"--root {root}: cannot be written ({error.strerror}); choose a folder of yours"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UsageError(f"--root {root}: {held}") from error
        yield


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_store(root: str) -> None:
    """Refuses a root whose metadata store cannot be read, or is gone from beside its artifacts.

    Raises:
      errors.WorkError: what is damaged, and what to do.
    """
    path, artifacts = os.path.join(root, STORE), os.path.join(root, ARTIFACTS)
    damage = ""
    if os.path.exists(path) and os.path.getsize(path):
        address = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=rw"  # a killed run's journal is rolled back
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as store:
                [said] = store.execute("PRAGMA quick_check(1)").fetchone()
            damage = "" if said == "ok" else said.splitlines()[-1]
        except sqlite3.DatabaseError as error:
            damage = str(error)
    elif os.path.isdir(artifacts) and os.listdir(artifacts):
        damage = f"empty or gone, although {ARTIFACTS} is not"
    if damage:
        raise errors.WorkError(
            f"--root {root}: its {STORE} is damaged ({damage}); put a copy of it back, choose another root, or remove "
            f"{STORE} and {ARTIFACTS} to do every step again: what was pushed stays"
        )


def finished(root: str) -> dict[str, Any]:
    """The summary of the last run in a root, which pushed a model.

    Raises:
      errors.UsageError: there is no such folder, no finished run in it, or one that pushed nothing.
    """
    if not os.path.isdir(root):
        raise errors.UsageError(f"--root {root}: no such folder; name the root of a finished run")
    summary = read_json(os.path.join(root, SUMMARY_FILE))
    if summary is None:
        raise errors.UsageError(
            f"--root {root}: no {SUMMARY_FILE} there: it is no root of a run, or its last run did not finish; run it "
            "again, or mend what it said"
        )
    if summary["pushed_model"] is None:
        raise errors.UsageError(f"--root {root}: its last run pushed no model ({summary['reason']})")
    return summary


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

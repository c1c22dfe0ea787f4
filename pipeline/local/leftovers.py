"""Clears a root of what killed runs left in it, so that it holds what is known and no more."""

import glob
import logging
import os
import shutil
from collections.abc import Iterator

from ml_metadata.proto import metadata_store_pb2

from longtail.models.export import versions
from longtail.pipeline import graph
from longtail.pipeline.local import holdings
from longtail.pipeline.local import root_folder

log = logging.getLogger("longtail")

_KNOWN = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


def clear(root: str, where: graph.Places) -> list[str]:
    """Removes what no run will read again, and returns its folders.

    That are the outputs and the working folders of steps that the metadata store does not know as complete (they were
    killed, and are done anew under another number); the folders `.temp` of steps that are over; and galleries of a
    model version that is gone, since a gallery is of use beside that version alone.

    Args:
      root: a root that is held, so that none of its steps is at work.
      where: its folders.
    """
    if not os.path.exists(os.path.join(root, root_folder.STORE)):
        return []
    found = [*_unfinished(root), *_galleries(where)]
    for folder in found:
        log.info("removing %s: its step was cut short, or its model is gone", folder)
        shutil.rmtree(folder)
    return found


def _unfinished(root: str) -> Iterator[str]:
    known = {each.id for each in holdings.store(root).get_executions() if each.last_known_state in _KNOWN}
    steps = os.path.join(glob.escape(root), root_folder.ARTIFACTS, "*")
    patterns = (os.path.join(steps, "*", "*"), os.path.join(steps, ".system", "executor_execution", "*"))
    for folder in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        number = os.path.basename(folder)
        if number.isdecimal() and int(number) not in known:
            yield folder
        elif os.path.isdir(os.path.join(folder, ".temp")):
            yield os.path.join(folder, ".temp")


def _galleries(where: graph.Places) -> Iterator[str]:
    kept = versions.find(where.models)
    for version, folder in versions.find(where.galleries).items():
        if kept and version not in kept:  # without any, the folder of models is not where it was
            yield folder

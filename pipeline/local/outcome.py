"""How a run went, told however it ends: what it was asked, why it stopped, its report; and MLflow where it is used."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import logging
import os
import platform
from collections.abc import Iterator
from typing import Any

import longtail
from longtail.models import errors
from longtail.models import files
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.local import tracking
from longtail.pipeline.report import run_page

log = logging.getLogger("longtail")

_PACKAGES = (
    "tensorflow", "tfx", "tensorflow-addons", "tensorflow-data-validation", "apache-beam", "ml-metadata", "numpy",
    "pillow", "faiss-cpu",
)  # fmt: skip


@contextlib.contextmanager
def told(recipe: recipe_lib.Recipe, root: str, **about: Any) -> Iterator[None]:
    """Writes down what a run is about when the block begins, and reports on it when it ends, unless by a signal.

    Args:
      recipe: in effect.
      root: the run's folder; `run.json` and `report.html` are written there.
      about: what else the run was told: `run_id`, `source`, `span`, `accept_drift`, `accept_scores`.
    """
    path = os.path.join(root, root_folder.RUN_FILE)
    content = {
        **about,
        "recipe": dataclasses.asdict(recipe),
        "started": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
        "packages": _packages(),
        "stopped": None,
    }
    files.write_json(path, content)
    with contextlib.suppress(FileNotFoundError):  # it tells of the run before this one, whatever becomes of this one
        os.remove(os.path.join(root, root_folder.REPORT_FILE))
    try:
        yield
    except Exception as error:
        stopped = str(error) if hasattr(error, "exit_status") else errors.first_line(error)
        files.write_json(path, {**content, "stopped": stopped})
        if page := _report(root):
            log.info("report on how far it came: %s", page)
        raise
    _report(root)


def _report(root: str) -> str:
    """Writes the report and tells MLflow; where the report lies, "" where there is none."""
    page = os.path.join(root, root_folder.REPORT_FILE)
    for what, work in (("no report of the run", run_page.write), ("the run is not in MLflow", tracking.track)):
        try:
            work(root, page)
        except Exception as error:  # a run that trained and pushed a model has not failed for want of a page
            log.warning("%s: %s", what, errors.first_line(error), exc_info=True)
    return page if os.path.exists(page) else ""


def _packages() -> dict[str, str]:
    """Versions of what decides the figures."""
    installed = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"longtail": longtail.__version__, "python": platform.python_version(), **installed}

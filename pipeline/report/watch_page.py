"""One HTML page of what a watch has run and what it waits for: what `templates/watch.html` is filled in with."""

import collections
import datetime
import glob
import os
import urllib.parse
from typing import Any

from longtail.models import errors
from longtail.pipeline.report import pages
from longtail.pipeline.watch import journal as journal_lib

WATCH_FILE = "watch.html"

_KINDS = {journal_lib.PUSHED: "accepted", journal_lib.ACCEPTED: "accepted", journal_lib.NOT_BLESSED: "overridden"}


def render(journal: journal_lib.Journal, state: str, about: dict[str, str]) -> str:
    """The page.

    Args:
      journal: the runs.
      state: what the watch is about now.
      about: its `recipe`, `pattern` and `root`.
    """
    served = journal.served()
    counted = collections.Counter(one.outcome for one in journal.last().values())
    return pages.render(
        "watch.html",
        title="Deliveries, as they were taken",
        state=errors.shown(state[:1].upper() + state[1:]),
        at=_time(datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")),
        served=served and _row(served, about["root"]),
        counts=[(outcome, counted[outcome]) for outcome in journal_lib.OUTCOMES],
        runs=[_row(one, about["root"]) for one in reversed(journal.entries)],
        **{key: errors.shown(value) for key, value in about.items()},
    )


def _row(one: journal_lib.Entry, root: str) -> dict[str, Any]:
    drift = glob.glob(os.path.join(glob.escape(root), "drift", f"*-span-{one.span}.html"))
    return {
        "span": one.span,
        "started": _time(one.started),
        "seconds": f"{one.seconds:.0f}",
        "outcome": one.outcome,
        "kind": _KINDS.get(one.outcome, "refused"),
        "version": "-" if one.version is None else one.version,
        "mAP": "-" if one.mAP is None else f"{100 * one.mAP:.2f}",
        "reason": errors.shown(one.reason),
        "log": errors.shown(one.log),
        "drift": [f"drift/{urllib.parse.quote(os.path.basename(page))}" for page in sorted(drift)],
    }


def _time(iso: str) -> str:
    return iso.partition("+")[0].replace("T", " ")

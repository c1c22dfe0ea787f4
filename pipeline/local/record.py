"""The record of a run in its root: what it pinned when it first started, and what its sessions have spent."""

import logging
import os
import time
from typing import Any

from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.baseline_finder import component as baseline_finder
from longtail.components.image_example_gen import division
from longtail.components.serving_skew import requests
from longtail.components.span_window import windows
from longtail.models import files
from longtail.models.training import position as position_lib
from longtail.pipeline import graph
from longtail.pipeline.local import root_folder

log = logging.getLogger("longtail")

_PINS = ("pinned_span", "pinned_version", "pinned_sides", "pinned_window")


class Record:
    """What a run pinned when it first started, so that running it again is the same run.

    The baselines are looked up once: a resumed run compares with what it first compared with, whatever was accepted
    or pushed since, and finds all its finished components in the cache. A run that failed before its training, at the
    gate or at a baseline that cannot be read, looks anew, and so does any run once something was withdrawn; and what a
    finished run pushed is pushed again if it is gone.
    What a session that did not finish spent on each component is kept too, and counts as the run's.
    A request log that grew since the gate passed it is not read again by a run that was cut: the server goes on writing
    meanwhile. A finished run reads it anew.
    """

    def __init__(
        self,
        root: str,
        run_id: str,
        where: graph.Places,
        span: int,
        fingerprint: str,
        sides: str = division.NONE,
        window: str = windows.ALL,
    ):
        """Takes, beside what names the run, what `division.divide` says of its data now, and `data.window`."""
        self._path = os.path.join(root, root_folder.RECORDS, f"{run_id}.json")
        content = root_folder.read_json(self._path)
        withdrawn = _withdrawn(where.registry)
        if content is None or not content["accepted"] or content.get("withdrawn") != withdrawn:
            earlier = windows.earlier(where.registry, span, window)
            content = {
                "seconds": (content or {}).get("seconds", {}),
                "accepted": False,
                "delivery": 0,
                "delivered": [],
                "pinned_span": baseline_finder.pin_span(where.registry, span, fingerprint),
                "pinned_version": baseline_finder.pin(baseline_finder.last_version(where.models)),
                "pinned_sides": sides,
                "pinned_window": windows.pin(earlier, ledger.read(where.registry).withdrawals),
                "withdrawn": withdrawn,
            }
        if not all(os.path.exists(path) for path in content["delivered"]):
            log.info("what this run pushed is no longer there; it is pushed again")
            content |= {"delivery": content["delivery"] + 1, "delivered": []}
        self._content = content
        self._before: dict[str, float] = content.get("seconds", {})
        files.write_json(self._path, content)

    def pins(self, request_log: str) -> dict[str, Any]:
        """What decides the run beside its data and recipe: fields of `graph.Span`.

        Raises:
          errors.UsageError: there is nothing in the request log.
        """
        pinned = {key: self._content[key] for key in (*_PINS, "delivery")}
        cut = self._content["accepted"] and not self._content["delivered"]
        listing = self._content.get("requests", {}).get(request_log) if cut else None
        return {
            **pinned,
            "request_log": request_log,
            "request_listing": requests.listing(request_log) if listing is None else listing,
        }

    def accept(self, request_log: str, listing: str) -> None:
        """Marks that the gate let the run pass: from now on its pins stay."""
        self._content |= {"accepted": True, "requests": {request_log: listing}}
        files.write_json(self._path, self._content)

    def spend(self, seconds: dict[str, float]) -> None:
        """Notes what this session has spent on each component so far: who is killed next has spent it too."""
        self._content["seconds"] = self.spent(seconds)
        files.write_json(self._path, self._content)

    def spent(self, seconds: dict[str, float]) -> dict[str, float]:
        """What this session and those before it, none of which finished, have spent on each component."""
        names = (*seconds, *(name for name in self._before if name not in seconds))
        return {name: round(seconds.get(name, 0.0) + self._before.get(name, 0.0), 2) for name in names}

    def finish(self, delivered: list[str]) -> None:
        """Notes what the finished run pushed, if anything; whoever runs it again starts a new account of seconds."""
        self._content |= {"delivered": delivered or self._content["delivered"], "seconds": {}}
        files.write_json(self._path, self._content)


def _withdrawn(registry: str) -> dict[str, list[Any]]:
    """What is withdrawn now: of a run that stands on it nothing may be taken from the cache."""
    gone = set(registry_lib.entered_spans(registry)).difference(registry_lib.accepted_spans(registry))
    return {"spans": sorted(gone), "identities": sorted(ledger.read(registry).withdrawals.digests)}


class Account:
    """What a session has spent on each component; the record hears of it as long as the session lives."""

    def __init__(self, record: Record):
        self._record = record
        self._seconds: dict[str, float] = {}
        self._running = ("", 0.0)

    def start(self, name: str) -> None:
        self._running = (name, time.monotonic())

    def end(self, name: str, seconds: float) -> None:
        self._seconds[name] = seconds
        self._running = ("", 0.0)
        self.write()

    def write(self) -> None:
        """With the component that is at work."""
        name, started = self._running
        self._record.spend(self._seconds | ({name: time.monotonic() - started} if name else {}))

    def total(self) -> dict[str, float]:
        return self._record.spent(self._seconds)

    def watch(self, position: position_lib.Position) -> None:
        """Of a training that is killed all finished epochs count."""
        if position.step == 0:
            self.write()

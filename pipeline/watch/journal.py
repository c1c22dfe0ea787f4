"""The journal of a watch: a line of JSON a run, in the root of the runs."""

import dataclasses
import json
import os

from longtail.models import errors
from longtail.models import files
from longtail.pipeline.watch import child

JOURNAL_FILE = "watch.jsonl"

PUSHED, ACCEPTED, NOT_BLESSED, REJECTED, FAILED = OUTCOMES = "pushed", "accepted", "not blessed", "rejected", "failed"
# Of these the data was accepted: its span is done, whatever becomes of the delivery.
DONE = (PUSHED, ACCEPTED, NOT_BLESSED)

_GATE = "stopped by the drift gate"  # how DriftGate's refusal begins


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run of one span.

    Attributes:
      span: its number.
      started: when, UTC, as ISO 8601 has it.
      seconds: how long it took.
      outcome: one of `OUTCOMES`.
      reason: why nothing was pushed, in a line; "" where something was.
      version: what was pushed; None where nothing was.
      mAP: of the run's model on held-out identities, from 0 to 1; None where it was not scored.
      served: the version that servers take after the run; None where the run did not get so far, or none is there.
      data: what was delivered, as `Deliveries.look` tells it.
      log: the file of what the run said.
    """

    span: int
    started: str
    seconds: float
    outcome: str
    reason: str
    version: int | None
    mAP: float | None
    served: int | None
    data: str
    log: str

    def line(self) -> str:
        """What a person is told."""
        if self.outcome == PUSHED:
            return f"span {self.span}: pushed version {self.version}, mAP {self.mAP:.4f}, in {self.seconds:.0f} s"
        return f"span {self.span}: {self.outcome} after {self.seconds:.0f} s: {self.reason}"


def entry(span: int, started: str, seconds: float, data: str, log: str, result: child.Result) -> Entry:
    """What came of a run."""
    summary = result.summary or {}
    if result.exit_status == 0:
        outcome = PUSHED if summary.get("pushed_model") else ACCEPTED
    elif summary:
        outcome = NOT_BLESSED
    else:
        outcome = REJECTED if result.error.startswith(_GATE) else FAILED
    return Entry(
        span=span,
        started=started,
        seconds=round(seconds, 1),
        outcome=outcome,
        reason="" if outcome == PUSHED else result.error or summary.get("reason", ""),
        version=summary.get("version"),
        mAP=summary.get("metrics", {}).get("mAP"),
        served=(summary.get("served") or {}).get("version"),
        data=data,
        log=log,
    )


class Journal:
    """The lines of a root.

    Args:
      root: of the runs.

    Raises:
      errors.WorkError: a line is none of a journal.
    """

    def __init__(self, root: str):
        self._path = os.path.join(root, JOURNAL_FILE)
        self.entries: list[Entry] = []
        if os.path.exists(self._path):
            with open(self._path, encoding="utf-8") as file:
                self.entries = [self._read(row, line) for row, line in enumerate(file, 1)]

    def _read(self, row: int, line: str) -> Entry:
        try:
            return Entry(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise errors.WorkError(
                f"{self._path}: row {row} is no line of a watch ({errors.first_line(error)}); mend it or remove it"
            ) from error

    def add(self, one: Entry) -> None:
        """Writes a line more; a reader sees the old lines or all of them, whole."""
        self.entries.append(one)
        files.write(self._path, "".join(f"{json.dumps(dataclasses.asdict(each))}\n" for each in self.entries))

    def last(self) -> dict[int, Entry]:
        """What came of each span in the end."""
        return {one.span: one for one in self.entries}

    def served_version(self) -> int | None:
        """The version that servers took after the last run that looked, None where none did or none is there."""
        return next((one.served for one in reversed(self.entries) if one.served is not None), None)

    def served(self) -> Entry | None:
        """The run of the model that is served, None where that was no run of this journal."""
        version = self.served_version()
        return next((one for one in self.entries if version is not None and one.version == version), None)

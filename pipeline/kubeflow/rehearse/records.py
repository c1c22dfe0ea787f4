"""What rehearsals did: one JSON file a run, replaced whole at every change; metadata store and cache as well."""

import datetime
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

from longtail.models import errors
from longtail.models import files
from longtail.pipeline.local import root_folder

FOLDER = "rehearsals"
RUNNING, SUCCEEDED, FAILED = "RUNNING", "SUCCEEDED", "FAILED"
COMPLETE, CACHED, SKIPPED, OMITTED = "COMPLETE", "CACHED", "SKIPPED", "OMITTED"
DONE = (COMPLETE, CACHED)
_FINAL = (*DONE, SKIPPED, OMITTED)
_FILE = "run.json"


class Record:
    """One run's record: its content, and the folder it and the steps' logs lie in."""

    def __init__(self, folder: str, content: dict[str, Any]):
        self.folder = folder
        self.content = content

    @property
    def id(self) -> str:
        """The run's."""
        return self.content["run_id"]

    @property
    def steps(self) -> dict[str, Any]:
        """What each step came to, by name."""
        return self.content["steps"]

    def save(self) -> None:
        """Writes the record, by rename."""
        files.write_json(os.path.join(self.folder, _FILE), self.content)

    def finished(self, name: str) -> bool:
        """Whether a step needs no more work."""
        return self.steps.get(name, {}).get("state") in _FINAL

    def begin(self, name: str, log: str, executor_input: dict[str, Any], root: str) -> dict[str, Any]:
        """Notes that a step is at work; clears away what an unfinished execution of it has left."""
        left = self.steps.get(name, {}).get("root")
        if left:
            shutil.rmtree(left, ignore_errors=True)
        self.steps[name] = {}
        started = now()
        return self.put(name, state=RUNNING, log=log, root=root, executor_input=executor_input, started=started)

    def put(self, name: str, **fields: Any) -> dict[str, Any]:
        """Changes a step's entry and saves."""
        step = self.steps.setdefault(name, {})
        step |= fields
        if step["state"] != FAILED:
            step.pop("error", None)
        self.save()
        return step

    def outputs(self) -> dict[str, Any]:
        """Outputs of the finished steps, by name."""
        return {name: step["outputs"] for name, step in self.steps.items() if step["state"] in DONE}


class Records:
    """All runs of a root. One process at a time works in it."""

    def __init__(self, root: str):
        self._folder = os.path.join(root, FOLDER)
        names = sorted(os.listdir(self._folder)) if os.path.isdir(self._folder) else []
        read = [_read(os.path.join(self._folder, name)) for name in names]
        self._all = [record for record in read if record is not None]

    def open(self, identity: str, described: dict[str, Any]) -> Record:
        """The last run of this identity if it did not finish, else a new one."""
        same = [record for record in self._all if record.content["identity"] == identity]
        if same and same[-1].content["state"] != SUCCEEDED:
            same[-1].content["state"] = RUNNING
            return same[-1]
        started = now()
        stamp = "".join(sign for sign in started if sign.isdigit())[:14]
        run_id = f"{stamp[:8]}-{stamp[8:]}-{len(self._all) + 1:04d}"
        content = {"run_id": run_id, "identity": identity, "state": RUNNING, "started": started, **described}
        record = Record(os.path.join(self._folder, run_id), content | {"steps": {}})
        self._all.append(record)
        return record

    def artifacts(self, pipeline: str | None = None, without: Record | None = None) -> list[dict[str, Any]]:
        """Every artifact of the finished steps of a pipeline's runs, or of all, but for one run; the newest first."""
        made = {
            artifact["name"]: artifact
            for record, step in self._steps(pipeline)
            if record is not without
            for artifacts in step["outputs"]["artifacts"].values()
            for artifact in artifacts
        }
        return sorted(made.values(), key=lambda artifact: -int(artifact["name"]))

    def cached(self, pipeline: str, fingerprint: str) -> dict[str, Any] | None:
        """The step of this pipeline that was last executed under this key."""
        found = [step for _, step in self._steps(pipeline) if step.get("fingerprint") == fingerprint]
        return max(found, key=lambda step: step["started"], default=None)

    def next_id(self) -> int:
        """A number no artifact has yet."""
        newest = self.artifacts()[:1]
        return 1 + sum(int(artifact["name"]) for artifact in newest)

    def _steps(self, pipeline: str | None) -> Iterator[tuple[Record, dict[str, Any]]]:
        for record in self._all:
            if pipeline in (None, record.content["pipeline"]):
                yield from ((record, step) for step in record.steps.values() if step["state"] == COMPLETE)


def _read(folder: str) -> Record | None:
    """The record in a folder; None where a run was killed before it wrote one."""
    path = os.path.join(folder, _FILE)
    content = root_folder.read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict) or not {"run_id", "identity", "pipeline", "steps"} <= set(content):
        raise errors.WorkError(f"{path}: no record of a rehearsal; remove it and run again")
    return Record(folder, content)


def salt() -> str:
    """What makes an execution's folder its own."""
    return str(uuid.uuid4())


def now() -> str:
    """The time in UTC, as RFC 3339."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

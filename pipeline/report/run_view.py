"""What the last run in a root did, read from its metadata store for a person to look at. Loads no TFX."""

import dataclasses
import datetime
import os
from collections.abc import Mapping
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from longtail.models import errors
from longtail.pipeline.local import root_folder

_STATES = metadata_store_pb2.Execution.State
_RUN = "pipeline_run"  # contexts of TFX


@dataclasses.dataclass(frozen=True)
class Artifact:
    """What a step made: its folder, and its custom properties."""

    folder: str
    properties: dict[str, Any]

    def read(self, name: str) -> Any:
        """A JSON file of it; None where it is gone, or was not made by the release that ran."""
        return root_folder.read_json(os.path.join(self.folder, name))


@dataclasses.dataclass(frozen=True)
class Step:
    """A component of a run.

    Attributes:
      name: of the component.
      state: complete, cached, failed, or what else ML Metadata has.
      seconds: it took, as the run's own table has them.
      outputs: key -> artifact.
    """

    name: str
    state: str
    seconds: float
    outputs: dict[str, Artifact]


@dataclasses.dataclass(frozen=True)
class Run:
    """The last run in a root.

    Attributes:
      root: its folder.
      pipeline: its name.
      started: when.
      steps: by name, in the order in which they ran; a stopped run has fewer.
      about: what it wrote down when it began, see `longtail.pipeline.local.outcome`; empty of an earlier release's run.
      summary: None of a run that did not finish.
    """

    root: str
    pipeline: str
    started: datetime.datetime
    steps: dict[str, Step]
    about: dict[str, Any]
    summary: dict[str, Any] | None

    def output(self, step: str, key: str) -> Artifact | None:
        """What a step made, if it did."""
        return self.steps[step].outputs.get(key) if step in self.steps else None

    def read(self, step: str, key: str, name: str) -> Any:
        """A JSON file of what a step made; None where there is none."""
        artifact = self.output(step, key)
        return artifact.read(name) if artifact else None


def load(root: str) -> Run:
    """Reads the last run.

    Raises:
      errors.UsageError: there is no such folder, or no run in it.
      errors.WorkError: its metadata store, or a file of it, is damaged.
    """
    if not os.path.isdir(root):
        raise errors.UsageError(f"{root}: no such folder; give the --root of a run")
    path = os.path.join(root, root_folder.STORE)
    if not os.path.isfile(path) or not os.path.getsize(path):
        raise errors.UsageError(f"{root}: no run there ({root_folder.STORE} is missing); give the --root of a run")
    root_folder.check_store(root)
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = path
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE
    store = metadata_store.MetadataStore(config)
    runs = store.get_contexts_by_type(_RUN)
    if not runs:
        raise errors.UsageError(f"{root}: no run began there yet; `longtail run --root {root}` begins one")
    last = max(runs, key=lambda context: (context.create_time_since_epoch, context.id))
    [pipeline] = [one for one in store.get_parent_contexts_by_context(last.id) if one.type == "pipeline"] or [last]
    about = root_folder.read_json(os.path.join(root, root_folder.RUN_FILE)) or {}
    summary = root_folder.read_json(os.path.join(root, root_folder.SUMMARY_FILE))
    return Run(
        root,
        pipeline.name,
        datetime.datetime.fromtimestamp(last.create_time_since_epoch / 1000),
        _steps(store, last.id, root, _spent(root, about, summary)),
        about,
        summary,
    )


def _steps(store: metadata_store.MetadataStore, run: int, root: str, spent: Mapping[str, float]) -> dict[str, Step]:
    executions = sorted(store.get_executions_by_context(run), key=lambda one: one.id)
    found = {}
    for execution in executions:  # a component that was tried twice counts as it went last
        name = execution.type.rpartition(".")[2]
        events = store.get_events_by_execution_ids([execution.id])
        keys = {one.artifact_id: one.path.steps[0].key for one in events if one.type == one.OUTPUT and one.path.steps}
        artifacts = store.get_artifacts_by_id(list(keys))
        state = _STATES.Name(execution.last_known_state).lower()
        took = execution.last_update_time_since_epoch - execution.create_time_since_epoch
        outputs = {keys[one.id]: _artifact(one, root) for one in artifacts}
        found[name] = Step(name, state, spent.get(name, took / 1000), outputs)
    return found


def _spent(root: str, about: Mapping[str, Any], summary: Mapping[str, Any] | None) -> dict[str, float]:
    """Seconds by component as the run itself counts them, those of interrupted sessions too; {} where it did not."""
    if summary is not None:
        return summary["seconds"]
    if "run_id" not in about:
        return {}
    record = root_folder.read_json(os.path.join(root, root_folder.RECORDS, f"{about['run_id']}.json")) or {}
    return record.get("seconds", {})


def _artifact(found: Any, root: str) -> Artifact:
    """Its folder is the one of this root, also where that has been moved since."""
    tail = found.uri.rpartition(f"/{root_folder.ARTIFACTS}/")[2]
    here = os.path.join(root, root_folder.ARTIFACTS, tail)
    values = {name: getattr(value, value.WhichOneof("value")) for name, value in found.custom_properties.items()}
    return Artifact(here if os.path.isdir(here) else found.uri, values)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their whole keys, such as `head.scale`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found

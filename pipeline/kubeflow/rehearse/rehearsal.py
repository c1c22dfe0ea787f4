"""Runs a compiled pipeline on this machine as Kubeflow or Vertex AI would, one container command after the other."""

import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import rich.console
import rich.table

from longtail.models import errors
from longtail.pipeline import console as console_lib
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import image
from longtail.pipeline.kubeflow.rehearse import records as records_lib
from longtail.pipeline.kubeflow.rehearse import refusals
from longtail.pipeline.kubeflow.rehearse import worker as worker_lib

STORE = "store"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to rehearse, and how.

    Attributes:
      path: the compiled pipeline.
      root: folder of everything the rehearsal writes.
      given: the run's parameters, as text.
      profile: `driver.KFP` or `driver.VERTEX`.
      subprocesses: whether each container is a fresh process.
    """

    path: str
    root: str
    given: Mapping[str, str]
    profile: str = driver.KFP
    subprocesses: bool = False


@dataclasses.dataclass(frozen=True)
class Ready:
    """A plan that was found to be possible.

    Attributes:
      plan: it.
      pipeline: with the store in place of its bucket.
      parameters: of the run.
      lines: what is to be said of it.
    """

    plan: Plan
    pipeline: ir.Pipeline
    parameters: dict[str, Any]
    lines: list[str]


def prepare(plan: Plan) -> Ready:
    """Reads the pipeline and finds out whether it can be rehearsed; writes nothing.

    Raises:
      errors.UsageError: the pipeline cannot be read, or a parameter is wrong.
      errors.WorkError: this profile cannot run the pipeline.
    """
    store = _store(plan)
    pipeline, bucket = _load(plan.path, store)
    given = _replaced(dict(plan.given), bucket, store) if bucket else plan.given
    parameters = driver.parameters(pipeline, given)
    refusals.check(pipeline, plan.profile)
    lines = [f"{bucket} is {store} here"] if bucket else []
    lines += [f"{task.name}: {line}" for task in pipeline.tasks for line in refusals.differences(task, plan.profile)]
    return Ready(plan, pipeline, parameters, lines)


def rehearse(ready: Ready, console: rich.console.Console) -> dict[str, Any]:
    """Runs the pipeline, or goes on with the run of the same pipeline and parameters that did not finish.

    Returns:
      The run's record, as in `<root>/rehearsals/<run>/run.json`.
    """
    plan, pipeline = ready.plan, ready.pipeline
    say = _sayer(console)
    for line in ready.lines:
        say(line)
    kept = records_lib.Records(os.path.abspath(plan.root))
    described = {
        "pipeline": pipeline.name,
        "file": os.path.abspath(plan.path),
        "profile": plan.profile,
        "subprocess": plan.subprocesses,
        "parameters": ready.parameters,
    }
    record = kept.open(_identity(ready), described)
    record.save()
    started = record.content["started"]
    run = driver.Run(record.id, pipeline.name, plan.profile, _store(plan), ready.parameters, started)
    executables = image.prepare(os.path.join(os.path.abspath(plan.root), "image")) if plan.subprocesses else ""
    _walk(pipeline, worker_lib.Worker(run, kept, record, executables, say), record, console)
    return record.content


def _sayer(console: rich.console.Console) -> Callable[[str], None]:
    return functools.partial(console.print, highlight=False, markup=False, soft_wrap=True)


def _store(plan: Plan) -> str:
    return os.path.join(os.path.abspath(plan.root), STORE)


def _load(path: str, store: str) -> tuple[ir.Pipeline, str]:
    """The pipeline with the store in place of the bucket it names as its root; that bucket, "" if it names none."""
    pipeline = ir.load(path)
    if not pipeline.root:
        return pipeline, ""
    bucket = pipeline.root.rstrip("/")
    documents = [pipeline.document, pipeline.platform] if pipeline.platform else [pipeline.document]
    return ir.read(_replaced(documents, bucket, store), path), bucket


def _replaced(value: Any, bucket: str, store: str) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, bucket, store) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, bucket, store) for one in value]
    if isinstance(value, str):
        return re.sub(rf"{re.escape(bucket)}(?![\w.-])", lambda match: store, value)
    return value


def _identity(ready: Ready) -> str:
    """What makes two commands the same run."""
    what = [ready.pipeline.document, ready.pipeline.platform, ready.parameters, ready.plan.profile]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _walk(pipeline: ir.Pipeline, worker: worker_lib.Worker, record: records_lib.Record, console) -> None:
    """Runs each step that is not done; stops at the first that fails."""
    content, say = record.content, _sayer(console)
    with console_lib.Steps(console) as steps:
        for position, task in enumerate(pipeline.tasks):
            if record.finished(task.name):
                say(f"{task.name:<24} kept")
                continue
            steps.start(task.name, position, len(pipeline.tasks))
            try:
                step = worker.work(task)
            except errors.WorkError:
                content |= {"state": records_lib.FAILED, "failed": task.name}
                break
            if step["state"] in records_lib.DONE:
                steps.end(task.name, step["seconds"], step["state"] == records_lib.CACHED)
            else:
                say(f"{task.name:<24} {step['reason']}")
        else:
            content["state"] = records_lib.SUCCEEDED
            content.pop("failed", None)
    record.save()


def print_table(content: dict[str, Any]) -> None:
    """Prints what became of each step, and its seconds."""
    console = console_lib.out()
    table = rich.table.Table("step", "state", rich.table.Column("seconds", justify="right"))
    for name, step in content["steps"].items():
        table.add_row(name, step["state"], f"{step.get('seconds', 0.0):.1f}")
    console.print(table)
    total = sum(step.get("seconds", 0.0) for step in content["steps"].values())
    console.print(f"run {content['run_id']}: {content['state']}, {total:.0f} s", highlight=False)

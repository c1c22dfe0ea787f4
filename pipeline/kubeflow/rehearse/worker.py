"""Does one step of a rehearsal: finds it in the cache or runs its container, resolver or importer."""

import os
import shutil
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import in_process
from longtail.pipeline.kubeflow.rehearse import launcher
from longtail.pipeline.kubeflow.rehearse import records as records_lib
from longtail.pipeline.kubeflow.rehearse import vertex


class Worker:
    """What the steps of a run have in common.

    Args:
      run: what a step is told of its run.
      records: of all runs.
      record: of this run.
      executables: folder of the executables of fresh processes; "" runs Python modules in this one.
      say: says a line.
    """

    def __init__(
        self,
        run: driver.Run,
        records: records_lib.Records,
        record: records_lib.Record,
        executables: str,
        say: Callable[[str], None],
    ):
        self._run = run
        self._records = records
        self._record = record
        self._executables = executables
        self._say = say
        self._started = 0.0

    def work(self, task: ir.Task) -> dict[str, Any]:
        """Does a step; returns its entry in the record, which is written.

        Raises:
          errors.WorkError: it failed, which its entry says too.
        """
        self._started = time.monotonic()
        try:
            done = self._done(task)
        except (errors.WorkError, OSError) as error:
            self._record.put(task.name, state=records_lib.FAILED, error=str(error), seconds=self._seconds())
            raise errors.WorkError(str(error)) from error
        return self._record.put(task.name, seconds=self._seconds(), **done)

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 2)

    def _done(self, task: ir.Task) -> dict[str, Any]:
        missing = [name for name in task.depends if self._record.steps[name]["state"] not in records_lib.DONE]
        if missing:
            return {"state": records_lib.OMITTED, "reason": f"omitted: {missing[0]} did not run"}
        inputs = driver.resolve(task, self._run, self._record.outputs())
        if not driver.will_trigger(task, inputs):
            return {"state": records_lib.SKIPPED, "reason": f"skipped: {task.condition} does not hold"}
        if task.kind == ir.RESOLVER:
            known = self._records.artifacts(self._run.pipeline, without=self._record)
            return self._complete(vertex.resolve(task, inputs, known))
        if task.kind == ir.IMPORTER:
            return self._complete(self._imported(task, inputs))
        return self._container(task, inputs)

    def _complete(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return {"state": records_lib.COMPLETE, "outputs": outputs, "started": records_lib.now()}

    def _container(self, task: ir.Task, inputs: dict[str, Any]) -> dict[str, Any]:
        log = os.path.join(self._record.folder, "logs", f"{task.name}.log")
        folder = os.path.join(self._record.folder, "work", task.name)
        for fresh in (folder, os.path.dirname(log)):
            os.makedirs(fresh, exist_ok=True)
        shutil.rmtree(folder)
        os.makedirs(os.path.join(folder, "home"))
        with open(log, "w", encoding="utf-8"):
            pass
        salt = records_lib.salt()
        root = driver.task_root(task, self._run, salt)
        outputs = driver.provision(task, self._run, salt, os.path.join(folder, "outputs"))
        if self._run.profile == driver.KFP:
            driver.add_log(outputs, root)
        executor_input = {"inputs": inputs, "outputs": outputs}
        self._record.begin(task.name, log, executor_input, root)
        runner = launcher.Runner(self._executables, os.path.join(folder, "home"))
        if task.hook and self._run.profile == driver.VERTEX:
            self._load(task.hook)
            vertex.run_hook(task, executor_input, runner, log)
        fingerprint = driver.fingerprint(task, inputs, outputs) if task.caching else ""
        found = self._records.cached(self._run.pipeline, fingerprint) if fingerprint else None
        if found:
            shutil.rmtree(root, ignore_errors=True)  # of the hook
            return {"state": records_lib.CACHED, "outputs": found["outputs"], "root": ""}
        self._load([*task.command, *task.args])
        made = self._numbered(self._attempts(task, executor_input, runner, log))
        return self._complete(made) | {"fingerprint": fingerprint}

    def _load(self, command: Sequence[str]) -> None:
        """Imports what a command runs in this process before its time is taken."""
        if self._executables or not in_process.can_preload(command):
            return
        self._say(f"loading {command[2]}")
        try:
            in_process.preload(command[2], os.path.join(self._record.folder, "logs", "imports.log"))
        except ImportError as error:
            raise errors.WorkError(f"{command[2]} cannot be imported: {error}") from error
        self._started = time.monotonic()

    def _attempts(self, task, executor_input, runner, log) -> dict[str, Any]:
        """Runs the container as often as its retry policy allows; all attempts write to the same place."""
        retries = task.spec.retry_policy.max_retry_count
        for attempt in range(retries):
            try:
                return launcher.launch(task, driver.of_attempt(executor_input, attempt), runner, log)
            except errors.WorkError as error:
                self._say(f"{task.name}: {error}; retry {attempt + 1} of {retries}")
        return launcher.launch(task, driver.of_attempt(executor_input, retries), runner, log)

    def _numbered(self, made: dict[str, Any]) -> dict[str, Any]:
        """Gives new artifacts their numbers, and what Kubeflow's launcher adds to their metadata."""
        number = self._records.next_id()
        for name, artifacts in made["artifacts"].items():
            for artifact in artifacts:
                artifact["name"] = str(number)
                number += 1
                if self._run.profile == driver.KFP:
                    added = {"display_name": name, "store_session_info": '{"Provider":"file","Params":null}'}
                    artifact["metadata"] = added | artifact["metadata"]
        return made

    def _imported(self, task: ir.Task, inputs: dict[str, Any]) -> dict[str, Any]:
        """An importer's output: the artifact known of that URI, unless it is to be imported anew."""
        importer = task.executor_spec.importer
        kind = importer.artifact_uri.WhichOneof("value")
        if kind == "runtime_parameter":
            uri = inputs["parameterValues"].get(importer.artifact_uri.runtime_parameter, "")
        else:
            uri = importer.artifact_uri.constant.string_value
        if not uri:
            raise errors.WorkError("artifact uri not provided")
        outputs = task.component_spec.output_definitions.artifacts
        if len(outputs) != 1:
            raise errors.WorkError(f"an importer has one output artifact; this has {len(outputs)}")
        [(name, spec)] = outputs.items()
        try:
            metadata = {key: launcher.stored(value) for key, value in driver.plain(importer.metadata).items()}
        except ValueError as error:
            raise errors.WorkError(str(error)) from error
        artifact = {"type": driver.plain(spec.artifact_type), "uri": uri, "metadata": metadata}
        if not importer.reimport:
            for known in self._records.artifacts(self._run.pipeline):
                if all(known[key] == artifact[key] for key in artifact):
                    return {"artifacts": {name: [known]}, "parameters": {}}
        artifact["name"] = str(self._records.next_id())
        return {"artifacts": {name: [artifact]}, "parameters": {}}

"""What Kubeflow and Vertex AI make of a step before any runs: refused, or run otherwise by the one than by the other.

Kubeflow Pipelines 2.17: backend/src/v2/compiler/argocompiler/dag.go.
"""

import re

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver

# What becomes a name of a folder or file below the root must not lead out of it.
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_DAG_GO = "(Kubeflow Pipelines 2.17, backend/src/v2/compiler/argocompiler/dag.go)"


def check(pipeline: ir.Pipeline, profile: str) -> None:
    """Raises where the profile refuses the whole pipeline, or where it cannot be rehearsed.

    Raises:
      errors.WorkError: names the step and the reason.
    """
    if not _NAME.fullmatch(pipeline.name):
        raise errors.WorkError(f"{pipeline.path}: {_odd('the pipeline', pipeline.name)}")
    tasks = {task.name: task for task in pipeline.tasks}
    for task in pipeline.tasks:
        reason = _refusal(task, profile) or _dangling(task, tasks, profile)
        if reason:
            raise errors.WorkError(f"{pipeline.path}: {task.name}: {reason}")


def _odd(what: str, name: str) -> str:
    return f"{what}'s name {name!r} has other signs than letters, digits, '_', '-' and '.'; it becomes a folder's"


def _refusal(task: ir.Task, profile: str) -> str:
    for what, names in (("the step", (task.name,)), ("an output", (*task.outputs, *task.output_parameters))):
        for name in names:
            if not _NAME.fullmatch(name):
                return _odd(what, name)
    if task.kind == ir.RESOLVER and profile == driver.KFP:
        return f"resolver executors not implemented {_DAG_GO}; --profile {driver.VERTEX} runs them"
    if task.kind == ir.IMPORTER and task.condition and profile == driver.KFP:
        return f"triggerPolicy.condition on importer task is not supported {_DAG_GO}"
    if task.kind == ir.CUSTOM_JOB:
        return f"custom job executors run on Google Cloud only {_DAG_GO}"
    if task.kind == "dag" or task.spec.trigger_policy.strategy:
        return "graphs within the graph (exit handlers, loops) are not rehearsed"
    if task.spec.WhichOneof("iterator"):
        return "loops are not rehearsed"
    if any(source.parameter_expression_selector for source in task.spec.inputs.parameters.values()):
        return "parameter expression selectors are not rehearsed"
    if not task.kind:
        return "nothing says how to run it"
    return ""


def _dangling(task: ir.Task, tasks: dict[str, ir.Task], profile: str) -> str:
    """What a driver would not find when the step starts: inputs of tasks that are nowhere, or are not awaited.

    Vertex AI waits for whatever makes an input; Kubeflow waits for the dependent tasks alone.
    """
    nowhere = sorted((set(task.depends) | task.producers) - set(tasks))
    if nowhere:
        return f"it waits for task {nowhere[0]!r}, which does not exist"
    if profile == driver.VERTEX:
        return ""
    awaited: set[str] = set()
    todo = [task]
    while todo:
        before = {name for one in [todo.pop()] for name in one.depends} - awaited
        awaited |= before
        todo += [tasks[name] for name in before]
    unawaited = sorted(task.producers - awaited)
    return f"it takes an output of {unawaited[0]} but does not wait for it (dependentTasks)" if unawaited else ""


def differences(task: ir.Task, profile: str) -> list[str]:
    """In a line each, what the other profile would do otherwise with a step."""
    lines = []
    if task.hook and profile == driver.KFP:
        lines.append("Vertex AI would run its driver hook first; Kubeflow does not: no span, version or fingerprint")
    if task.hook and profile == driver.VERTEX:
        lines.append("its driver hook runs first; Kubeflow would not run it: no span, version or fingerprint")
    if task.kind == ir.RESOLVER:
        lines.append("Kubeflow would refuse the whole pipeline for this resolver")
    if task.kind == ir.IMPORTER and task.condition:
        lines.append("Kubeflow would refuse the whole pipeline for this importer's condition")
    return lines

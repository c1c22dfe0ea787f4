"""Refuses what compiles and then fails on a cluster: each finding one line, and all of them at once.

What is said of Kubeflow Pipelines was read in its source, release 2.17.0; each rule names the file.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tfx import components as stock
from tfx import v1 as tfx
from tfx.dsl.components.base import base_node
from tfx.dsl.components.common import resolver
from tfx.dsl.input_resolution.strategies import latest_artifact_strategy
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy
from tfx.dsl.placeholder import placeholder
from tfx.orchestration.kubeflow.v2 import compiler_utils
from tfx.types import value_artifact
from tfx.utils import import_utils

from longtail.models import errors
from longtail.pipeline.kubeflow import ir

# TFX's compiler knows these alone; the backend runs neither.
_STRATEGIES = (
    latest_artifact_strategy.LatestArtifactStrategy,
    latest_blessed_model_strategy.LatestBlessedModelStrategy,
)
_PIPELINE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?")
# Of a task in Argo, which the backend makes of it (argo-workflows 4.0.8, validation_utils.go: workflowFieldNameFmt).
_TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,127}")
_STOCK_IMAGE = "gcr.io/tfx-oss-public/tfx"
_EXECUTOR = "--executor_class_path"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that would fail: of which component, at which of its keys, and what to do."""

    component: str
    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.component}: {self.key}: {self.problem}"


class Refused(errors.UsageError):
    """A pipeline that Kubeflow would not run.

    Attributes:
      findings: why.
    """

    def __init__(self, findings: Iterable[Finding]):
        self.findings = tuple(findings)
        super().__init__("; ".join(map(str, self.findings)))


def check(findings: Iterable[Finding]) -> None:
    """Raises Refused where there is a finding."""
    found = list(dict.fromkeys(findings))
    if found:
        raise Refused(found)


@contextlib.contextmanager
def tfx_errors() -> Iterator[None]:
    """What TFX's compiler raises, as one line."""
    try:
        yield
    except (TypeError, ValueError, KeyError, NotImplementedError, AssertionError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise Refused([Finding("pipeline", "compiler", f"TFX's compiler refuses it: {line}")]) from error


def pipeline(compiled: tfx.dsl.Pipeline, local: bool = False) -> Iterator[Finding]:
    """What is wrong with a pipeline before it is compiled, some of which TFX's compiler lets pass."""
    yield from _pipeline_name(compiled.pipeline_info.pipeline_name)
    for component in compiled.components:
        yield from _resolver(component)
        yield from _infra_validator(component)
        yield from _dynamic_properties(component)
        yield from _artifact_types(component)
        yield from _executor_class(component)
        if not local:
            yield from _value_artifacts(component, str(compiled.pipeline_info.pipeline_root))


def document(documents: list[dict[str, Any]], local: bool = False) -> Iterator[Finding]:
    """What is wrong with a compiled pipeline.

    Args:
      documents: the pipeline spec and perhaps a platform spec.
      local: whether it is for a rehearsal in local folders.
    """
    try:
        compiled = ir.read(documents, "pipeline")
    except errors.UsageError as error:
        yield Finding("pipeline", "spec", str(error))
        return
    tasks = {task.name: task for task in compiled.tasks}
    yield from _pipeline_name(compiled.name)
    yield from _root(compiled.root, local)
    for name, parameter in compiled.parameters.items():
        if not local:
            yield from _local_paths("pipeline", name, parameter.default)
    for task in compiled.tasks:
        yield from _task_name(task)
        yield from _container(task)
        yield from _hook(task)
        yield from _producers(task, tasks)
        for key, source in task.parameters.items():
            if source.key and not source.producer and source.key not in compiled.parameters:
                yield Finding(task.name, key, f"there is no runtime parameter {source.key!r}; declare it")
            if not local:
                yield from _local_paths(task.name, key, source.constant)


def _pipeline_name(name: str) -> Iterator[Finding]:
    """MLMD's and Argo's names: backend/src/v2/compiler/argocompiler/argo.go makes a Kubernetes object's name of it."""
    if not _PIPELINE_NAME.fullmatch(name):
        odd = " ".join(sorted(set(re.sub(r"[a-z0-9-]", "", name))))
        what = f"may not hold {odd}" if odd else "must begin and end with a letter or digit, and be 128 long at most"
        yield Finding("pipeline", "name", f"{name!r} {what}; use lower-case letters, digits and '-'")


def _task_name(task: ir.Task) -> Iterator[Finding]:
    """A task becomes a task of Argo's under its own name (backend/src/v2/compiler/argocompiler/dag.go: task)."""
    if not _TASK_NAME.fullmatch(task.name):
        yield Finding(task.name, "id", "Argo takes letters, digits and '-' in the name of a step; give it with_id(...)")


def _resolver(component: base_node.BaseNode) -> Iterator[Finding]:
    """dag.go: 'resolver executors not implemented'; the visitor refuses it before (compiler/visitor.go)."""
    if isinstance(component, resolver.Resolver):
        strategy = component.exec_properties[resolver.RESOLVER_STRATEGY_CLASS]
        known = strategy in _STRATEGIES
        why = "runs no resolver" if known else f"has no {strategy.__name__}, and runs no resolver at all"
        yield Finding(component.id, "strategy", f"Kubeflow Pipelines {why}; let a component of yours look it up")


def _infra_validator(component: base_node.BaseNode) -> Iterator[Finding]:
    """TFX's step_builder.py raises NotImplementedError."""
    if isinstance(component, stock.InfraValidator):
        yield Finding(component.id, "component", "there is no InfraValidator on Kubeflow; load the model in a step")


def _dynamic_properties(component: base_node.BaseNode) -> Iterator[Finding]:
    """TFX's step_builder.py names the producer '<id>_task', which is no task (driver/resolve.go: 'not in tasks')."""
    for key, value in component.exec_properties.items():
        if isinstance(value, placeholder.Placeholder):
            yield Finding(
                component.id,
                key,
                "takes its value from another task, which TFX compiles to one that does not exist; pass an artifact "
                "and read it in the executor, or use a RuntimeParameter",
            )


def _artifact_types(component: base_node.BaseNode) -> Iterator[Finding]:
    """In the container the class is imported by its title (TFX's kubeflow_v2_entrypoint_utils.py)."""
    for key, channel in (*component.inputs.items(), *component.outputs.items()):
        kind = channel.type
        if kind in compiler_utils._SUPPORTED_STANDARD_ARTIFACT_TYPES:
            continue
        name = kind.TYPE_NAME
        if not compiler_utils._SCHEMA_TITLE_RE.fullmatch(name or ""):
            yield Finding(component.id, key, f"artifact type {name!r} must be 'package.Class' with one dot")
        elif not _imports(name, kind):
            yield Finding(component.id, key, f"artifact type {name!r} is not where its class can be imported from")


def _imports(path: str, kind: type) -> bool:
    try:
        return import_utils.import_class_by_path(path) is kind
    except (ImportError, AttributeError, ValueError):
        return False


def _executor_class(component: base_node.BaseNode) -> Iterator[Finding]:
    """The container imports the executor by its name."""
    executor = getattr(component.executor_spec, "executor_class", None)
    if executor is not None and executor.__module__ == "__main__":
        name = executor.__qualname__
        yield Finding(component.id, "executor", f"__main__.{name} is not there in a container; put it into a module")


def _value_artifacts(component: base_node.BaseNode, root: str) -> Iterator[Finding]:
    """Nobody makes the folder that a value is written to.

    The launcher makes the parent of the artifact's local path below /gcs, /s3 or /minio (component/launcher_v2.go:
    prepareOutputFolders), TFX's entry point the executor output's; `ValueArtifact.write` opens its URI as it is.
    An object store needs no folder; any other file system does.
    """
    if _is_object_store(root):
        return
    for key, channel in component.outputs.items():
        if issubclass(channel.type, value_artifact.ValueArtifact):
            yield Finding(
                component.id, key, f"a value's parent folder is missing below {root}; take an object store as the root"
            )


def _is_object_store(uri: str) -> bool:
    return uri.startswith(("gs://", "s3://", "minio://"))


def _root(root: str, local: bool) -> Iterator[Finding]:
    """objectstore/config.go takes gs, s3 and minio; the steps themselves write with what TensorFlow has."""
    if local:
        return
    if not _is_object_store(root) or not root.partition("://")[2].strip("/"):
        yield Finding(
            "pipeline", "root", f"{root!r} is no object store; give gs://bucket/folder, or --local for a rehearsal"
        )
        return
    scheme = root.partition("://")[0]
    if scheme not in tf.io.gfile.get_registered_schemes():
        yield Finding(
            "pipeline", "root", f"TensorFlow has no file system for {scheme}://, the steps could not write; give gs://"
        )


def _local_paths(component: str, key: str, value: Any) -> Iterator[Finding]:
    for text in _texts(value):
        if text.startswith(("/", "file:/", "./", "../", "~/")):
            yield Finding(
                component, key, f"{text} is a path of this machine; give an object store's, or --local for a rehearsal"
            )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, within lists, mappings and JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        if value.lstrip()[:1] in ("{", "["):
            with contextlib.suppress(ValueError):
                yield from _texts(json.loads(value))
                return
        yield value


def _container(task: ir.Task) -> Iterator[Finding]:
    """dag.go runs containers and importers; the driver takes an image as it is (driver/driver.go)."""
    if task.kind not in (ir.CONTAINER, ir.IMPORTER, "dag"):
        yield Finding(task.name, "executor", f"Kubeflow Pipelines runs no {task.kind or 'component without executor'}")
    if task.kind == ir.IMPORTER and task.condition:
        yield Finding(task.name, "condition", "Kubeflow Pipelines takes none of an importer; put it on what reads it")
    if task.kind != ir.CONTAINER:
        return
    executor = task.args[task.args.index(_EXECUTOR) + 1] if _EXECUTOR in task.args[:-1] else ""
    if not task.image.strip():
        yield Finding(task.name, "image", "has none; give --image, or the step's own in the resources file")
    elif set(task.image) & set(" \t\n"):
        yield Finding(task.name, "image", f"{task.image!r} is no image; write registry/name:tag")
    elif task.image.startswith(_STOCK_IMAGE) and executor and not executor.startswith("tfx."):
        yield Finding(task.name, "image", f"{task.image} does not hold {executor}; build an image that does")


def _hook(task: ir.Task) -> Iterator[Finding]:
    """Nothing in the backend reads a container's lifecycle; Vertex AI runs it."""
    if task.hook:
        yield Finding(
            task.name,
            "lifecycle.preCacheCheck",
            "Kubeflow Pipelines runs no driver hook: span and fingerprint stay unresolved, and no file is read; find "
            "the files in the executor",
        )


def _producers(task: ir.Task, tasks: dict[str, ir.Task]) -> Iterator[Finding]:
    """driver/resolve.go: 'producer task, ..., not in tasks'."""
    for sources, outputs in ((task.parameters, "output_parameters"), (task.artifacts, "outputs")):
        for key, source in sources.items():
            if not source.producer:
                continue
            if source.producer not in tasks:
                yield Finding(task.name, key, f"comes from task {source.producer!r}, which does not exist")
            elif source.key not in getattr(tasks[source.producer], outputs):
                yield Finding(task.name, key, f"comes from {source.producer}.{source.key}, which it does not have")

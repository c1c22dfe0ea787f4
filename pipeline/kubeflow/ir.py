"""Reads a compiled pipeline: the YAML that Kubeflow Pipelines takes, checked against its own protos, as plain objects.

The one reader of that file: the rehearsal runs what it returns, and the linter judges it.
"""

import dataclasses
import heapq
import json
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from longtail.models import errors
from longtail.pipeline.kubeflow import document as document_lib

CONTAINER, IMPORTER, RESOLVER, CUSTOM_JOB = "container", "importer", "resolver", "custom_job"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A runtime parameter.

    Attributes:
      name: its name.
      type: of `ParameterType`, e.g. STRING or NUMBER_INTEGER.
      default: its value where none is given; None where it has none.
      optional: whether a run may go without a value.
    """

    name: str
    type: str
    default: Any = None
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Input:
    """Where a task's input comes from.

    Attributes:
      producer: the task that makes it; "" where it comes from elsewhere.
      key: output of the producer, or name of the pipeline's parameter or artifact.
      constant: its value where it is written in the file.
    """

    producer: str = ""
    key: str = ""
    constant: Any = None


@dataclasses.dataclass(frozen=True)
class Task:
    """One step.

    Attributes:
      name: its key in the graph.
      component: its component's name.
      executor: label of its executor; "" where it is a graph of its own.
      kind: CONTAINER, IMPORTER, RESOLVER, CUSTOM_JOB, "dag", or "" where nothing says how to run it.
      image: of its container.
      command: of its container, then `args`.
      args: of its container.
      hook: command and arguments of its pre-cache-check hook.
      env: of its container.
      resources: of its container, as they are in the file.
      platform: what the platform spec says of its executor on Kubernetes.
      parameters: where each input parameter comes from.
      artifacts: where each input artifact comes from.
      outputs: type of each output artifact, as its title.
      output_parameters: type of each output parameter.
      condition: of its trigger policy.
      depends: tasks it names as the ones to wait for.
      caching: whether its results may be reused.
      cache_key: replaces the computed key.
      spec: the task, its `component_spec` and its `executor_spec`, as protos.
    """

    name: str
    component: str
    executor: str
    kind: str
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    hook: tuple[str, ...]
    env: dict[str, str]
    resources: dict[str, Any]
    platform: dict[str, Any]
    parameters: dict[str, Input]
    artifacts: dict[str, Input]
    outputs: dict[str, str]
    output_parameters: dict[str, str]
    condition: str
    depends: tuple[str, ...]
    caching: bool
    cache_key: str
    spec: Any
    component_spec: Any
    executor_spec: Any

    @property
    def producers(self) -> set[str]:
        """Tasks whose outputs it takes."""
        sources = (*self.parameters.values(), *self.artifacts.values())
        return {source.producer for source in sources if source.producer}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline.

    Attributes:
      path: the file.
      name: of the pipeline.
      root: where it is to write, if the file says.
      sdk: what compiled it.
      parameters: by name.
      tasks: every one after those it waits for; among equals by name.
      platform: the platform spec's document, {} without.
      document: the pipeline spec's document, as it was in the file.
    """

    path: str
    name: str
    root: str
    sdk: str
    parameters: dict[str, Parameter]
    tasks: tuple[Task, ...]
    platform: dict[str, Any]
    document: dict[str, Any]


def load(path: str) -> Pipeline:
    """Reads a compiled pipeline; a second YAML document is its platform spec.

    Raises:
      errors.UsageError: the file is missing, is no pipeline spec 2.1, or its tasks cannot be put in order.
    """
    return read(document_lib.load(path), path)


def read(documents: list[Any], path: str) -> Pipeline:
    """Reads a pipeline from its parsed documents; `path` is what errors name.

    Raises:
      errors.UsageError: as `load` does.
    """
    document, platform = document_lib.split(documents, path)
    stripped, newer = document_lib.without_newer(document)
    spec = pipeline_spec_pb2.PipelineSpec()
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    try:
        json_format.ParseDict(stripped, spec)
        json_format.ParseDict(json_format.MessageToDict(spec.deployment_spec), deployment)
    except json_format.ParseError as error:
        raise errors.UsageError(f"{path}: no pipeline spec ({' '.join(str(error).split())})") from error
    if not spec.pipeline_info.name:
        raise errors.UsageError(f"{path}: pipelineInfo.name is empty; a pipeline has a name")
    _check_types(spec, path)
    build = _Builder(path, spec, deployment, newer, platform)
    tasks = {name: build.task(name, task) for name, task in sorted(spec.root.dag.tasks.items())}
    if not tasks:
        raise errors.UsageError(f"{path}: root.dag.tasks is empty; there is nothing to run")
    parameters = spec.root.input_definitions.parameters
    return Pipeline(
        path=path,
        name=spec.pipeline_info.name,
        root=spec.default_pipeline_root,
        sdk=spec.sdk_version,
        parameters={name: _parameter(name, parameters[name]) for name in sorted(parameters)},
        tasks=tuple(tasks[name] for name in _order(tasks, path)),
        platform=platform,
        document=document,
    )


def _check_types(spec: pipeline_spec_pb2.PipelineSpec, path: str) -> None:
    known = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.values()
    for name, component in (("root", spec.root), *sorted(spec.components.items())):
        for definitions in (component.input_definitions, component.output_definitions):
            for key, parameter in sorted(definitions.parameters.items()):
                if parameter.parameter_type not in known:
                    raise errors.UsageError(f"{path}: {name}: parameter {key}: no type {parameter.parameter_type}")
            for key, artifact in sorted(definitions.artifacts.items()):
                if document_lib.schema(artifact.artifact_type.instance_schema) is None:
                    raise errors.UsageError(f"{path}: {name}: artifact {key}: its instanceSchema is no YAML mapping")


def title(schema: dict[str, str]) -> str:
    """An artifact type's title, from its schema in JSON form; for a type of one's own the import path of its class."""
    if "instanceSchema" in schema:
        return str((document_lib.schema(schema["instanceSchema"]) or {}).get("title", ""))
    return schema.get("schemaTitle", "")


def parameter_type(spec: Any) -> str:
    """The name of the type that a component's input or output parameter declares."""
    return pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(spec.parameter_type)


def _parameter(name: str, spec: pipeline_spec_pb2.ComponentInputsSpec.ParameterSpec) -> Parameter:
    default = json_format.MessageToDict(spec.default_value) if spec.HasField("default_value") else None
    return Parameter(name, parameter_type(spec), default, spec.is_optional)


class _Builder:
    def __init__(self, path, spec, deployment, newer, platform):
        self._path = path
        self._components = spec.components
        self._executors = deployment.executors
        self._newer = newer
        self._platform = document_lib.dig(platform, "platforms", "kubernetes", "deploymentSpec", "executors")

    def task(self, name: str, spec: pipeline_spec_pb2.PipelineTaskSpec) -> Task:
        component = spec.component_ref.name
        if component not in self._components:
            raise errors.UsageError(f"{self._path}: task {name}: there is no component {component!r}")
        component_spec = self._components[component]
        label = component_spec.executor_label
        if label and label not in self._executors:
            raise errors.UsageError(f"{self._path}: component {component}: there is no executor {label!r}")
        executor = self._executors[label] if label else pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()
        container = executor.container
        hook = container.lifecycle.pre_cache_check
        return Task(
            name=name,
            component=component,
            executor=label,
            kind=executor.WhichOneof("spec") or component_spec.WhichOneof("implementation") or "",
            image=container.image,
            command=tuple(container.command),
            args=tuple(container.args),
            hook=(*hook.command, *hook.args),
            env={variable.name: variable.value for variable in container.env},
            resources=self._newer["resources"].get(label, {}),
            platform=document_lib.dig(self._platform, label),
            parameters={key: _parameter_input(value) for key, value in sorted(spec.inputs.parameters.items())},
            artifacts={key: _artifact_input(value) for key, value in sorted(spec.inputs.artifacts.items())},
            outputs={
                key: title(json_format.MessageToDict(value.artifact_type))
                for key, value in sorted(component_spec.output_definitions.artifacts.items())
            },
            output_parameters={
                key: parameter_type(value)
                for key, value in sorted(component_spec.output_definitions.parameters.items())
            },
            condition=spec.trigger_policy.condition,
            depends=tuple(spec.dependent_tasks),
            caching=spec.caching_options.enable_cache,
            cache_key=self._newer["cache_keys"].get(name, ""),
            spec=spec,
            component_spec=component_spec,
            executor_spec=executor,
        )


def _parameter_input(spec: pipeline_spec_pb2.TaskInputsSpec.InputParameterSpec) -> Input:
    kind = spec.WhichOneof("kind")
    if kind == "task_output_parameter":
        return Input(spec.task_output_parameter.producer_task, spec.task_output_parameter.output_parameter_key)
    if kind == "component_input_parameter":
        return Input(key=spec.component_input_parameter)
    if kind == "runtime_value" and spec.runtime_value.WhichOneof("value") == "constant":
        return Input(constant=json_format.MessageToDict(spec.runtime_value.constant))
    return Input()


def _artifact_input(spec: pipeline_spec_pb2.TaskInputsSpec.InputArtifactSpec) -> Input:
    if spec.WhichOneof("kind") == "task_output_artifact":
        return Input(spec.task_output_artifact.producer_task, spec.task_output_artifact.output_artifact_key)
    return Input(key=spec.component_input_artifact)


def _order(tasks: dict[str, Task], path: str) -> list[str]:
    """Names of the tasks, each after those it waits for; one that does not exist holds nobody up."""
    waits = {name: (set(task.depends) | task.producers) & set(tasks) for name, task in tasks.items()}
    ready = [name for name, before in waits.items() if not before]
    heapq.heapify(ready)
    done: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        done.append(name)
        for other, before in waits.items():
            if name in before:
                before.remove(name)
                if not before:
                    heapq.heappush(ready, other)
    if len(done) < len(tasks):
        circle = json.dumps(sorted(set(tasks) - set(done)))
        raise errors.UsageError(f"{path}: tasks {circle} wait for each other; a pipeline has no circles")
    return done

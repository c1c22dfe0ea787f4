"""Compiles the graph for Kubeflow Pipelines v2: TFX's own compiler, then what it leaves out, then the linter."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import yaml
from tfx import v1 as tfx
from tfx.orchestration import data_types
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner

from longtail.components import runtime
from longtail.pipeline import beam
from longtail.pipeline import graph
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.kubeflow.compile import exposed
from longtail.pipeline.kubeflow.compile import lint
from longtail.pipeline.kubeflow.compile import resources as resources_lib
from longtail.pipeline.local import run

COMMAND = ("python", "-m", "longtail.pipeline.kubeflow.entrypoint")

# The last is no longest pause: Argo counts it from the start of the first attempt, tries none again after it, and makes
# it the deadline of one that it does (argo-workflows, workflow/controller/operator.go: processNodeRetries). It must be
# longer than all attempts of a training.
_BACKOFF = {"backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "2592000s"}


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a compiled pipeline runs, and what with.

    Attributes:
      image: of every step that has none of its own.
      root: folder of artifacts, and of what outlives a run; an object store's URI.
      local: whether it is for a rehearsal in local folders.
      data: default of where the images are; "" makes each run say.
      resources: of the steps.
      beam_args: Apache Beam's, of the user.
      parameters: keys of the recipe that a run may change, beside `exposed.DEFAULT`.
    """

    image: str
    root: str
    local: bool = False
    data: str = ""
    resources: resources_lib.Resources = dataclasses.field(default_factory=resources_lib.Resources)
    beam_args: Sequence[str] = ()
    parameters: Sequence[str] = ()


def compile_recipe(recipe: recipe_lib.Recipe, target: Target) -> str:
    """Compiles a recipe.

    Returns:
      The file's text: the pipeline spec and, where a step asks for something of Kubernetes, a platform spec.

    Raises:
      errors.UsageError: a key that cannot be left open, or a step that does not exist.
      lint.Refused: Kubeflow would not run it.
    """
    open_recipe = exposed.leave_open(recipe, (*exposed.DEFAULT, *target.parameters))
    root = target.root.rstrip("/")
    span = graph.Span(
        source=_left_open("data", str, target.data or None),
        number=_left_open("span", int, 1),
        accept_drift=_left_open("accept_drift", str, ""),
        accept_scores=_left_open("accept_scores", str, ""),
        request_log=_left_open("request_log", str, ""),
    )
    model_name = _left_open("model_name", str, recipe.name)
    components = graph.build(open_recipe, run.places(root, runtime.MODEL), span, model_name)
    pipeline = tfx.dsl.Pipeline(graph.pipeline_name(recipe.name), root, components=components, enable_cache=True)
    return dump(compile_pipeline(pipeline, target))


def _left_open(name: str, kind: type, default: Any) -> Any:
    """What stands for a value until a run starts; a component takes it in the place of that value."""
    return data_types.RuntimeParameter(name, kind, default)


def compile_pipeline(pipeline: tfx.dsl.Pipeline, target: Target) -> list[dict[str, Any]]:
    """Compiles any TFX pipeline: its pipeline spec and, where there is need of one, its platform spec.

    Raises:
      errors.UsageError: resources of a step that it does not have.
      lint.Refused: TFX's compiler or Kubeflow would not take it; all that is known to be wrong.
    """
    resources_lib.check_steps(target.resources, (component.id for component in pipeline.components))
    findings = list(lint.pipeline(pipeline, target.local))
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image=target.image, default_commands=list(COMMAND), use_pipeline_spec_2_1=True
    )
    try:
        with lint.tfx_errors():
            job = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    except lint.Refused:
        lint.check(findings)  # which say it better, where there are any
        raise
    spec = job["pipelineSpec"]
    platform = _finish(spec, pipeline, target)
    documents = [spec, platform] if platform else [spec]
    told = {(finding.component, finding.key) for finding in findings}
    more = lint.document(documents, target.local)
    lint.check([*findings, *(finding for finding in more if (finding.component, finding.key) not in told)])
    return documents


def dump(documents: Sequence[dict[str, Any]]) -> str:
    """The text of a compiled pipeline, headed by what it is and what it can be told."""
    spec = documents[0]
    lines = [f"# Pipeline {spec['pipelineInfo']['name']} for Kubeflow Pipelines v2. Parameters:"]
    for name, parameter in sorted(_inputs(spec).items()):
        default = json.dumps(parameter["defaultValue"]) if "defaultValue" in parameter else "none, each run says"
        lines.append(f"#   {name}: {parameter['parameterType']} [default: {default}]")
    return "\n".join(lines) + "\n" + yaml.safe_dump_all(documents, sort_keys=True, width=1000)


def _inputs(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return spec["root"].get("inputDefinitions", {}).get("parameters", {})


def _finish(spec: dict[str, Any], pipeline: tfx.dsl.Pipeline, target: Target) -> dict[str, Any]:
    """Adds to a spec what TFX's compiler leaves out; returns the platform spec, {} where there is nothing in it."""
    spec["defaultPipelineRoot"] = target.root
    for component in pipeline.components:
        for value in component.exec_properties.values():
            if isinstance(value, data_types.RuntimeParameter) and value.default is not None:
                _inputs(spec)[value.name] |= {"defaultValue": value.default, "isOptional": True}
    executors = {}
    on_beam = {c.id for c in pipeline.components if hasattr(c.executor_spec, "beam_pipeline_args")}
    for name, task in spec["root"]["dag"]["tasks"].items():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        step = target.resources.of(name)
        task["cachingOptions"] = {"enableCache": name not in graph.LOOK_OUTSIDE if step.cache is None else step.cache}
        if step.retries:
            task["retryPolicy"] = {"maxRetryCount": step.retries, **_BACKOFF}
        container = spec["deploymentSpec"]["executors"][label].get("container")
        if container is None:
            continue
        _dress(container, step, target.beam_args if name in on_beam else None)
        if platform := resources_lib.platform(step):
            executors[label] = platform
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}} if executors else {}


def _dress(container: dict[str, Any], step: resources_lib.Step, beam_args: Sequence[str] | None) -> None:
    """Gives a container its image, resources and environment."""
    container["image"] = step.image or container.get("image", "")
    container["resources"] = resources_lib.container(step)
    env = dict(step.env or {})
    if beam_args is not None:
        env[beam.ENVIRONMENT] = json.dumps(beam.arguments(beam_args))
    if env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(env.items())]

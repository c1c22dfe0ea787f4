"""What Kubeflow's driver does before a container starts: resolves inputs, decides conditions, provisions outputs.

Follows Kubeflow Pipelines 2.17: backend/src/v2/driver (resolve.go, driver.go, cache.go) and backend/src/v2/cacheutils.
An executor input is a dictionary in the JSON form of `ml_pipelines.ExecutorInput`; every number in it is a float.
"""

import copy
import dataclasses
import decimal
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow import parameters as parameters_lib
from longtail.pipeline.kubeflow.rehearse import cel

KFP, VERTEX = "kfp", "vertex"
LOGS = "executor-logs"  # an output that every step has on Kubeflow, and no component
OUTPUT_FILES = {KFP: "output_metadata.json", VERTEX: "executor_output.json"}

_NUMBERS = ("NUMBER_INTEGER", "NUMBER_DOUBLE")
_KINDS = {"BOOLEAN": bool, "LIST": list, "STRUCT": dict, "STRING": str} | dict.fromkeys(_NUMBERS, float)


@dataclasses.dataclass(frozen=True)
class Run:
    """What a step is told of its run.

    Attributes:
      id: of the run.
      pipeline: its pipeline's name.
      profile: KFP or VERTEX.
      store: folder that stands in for the bucket.
      parameters: of the run, resolved.
      created: when, in UTC, as RFC 3339.
    """

    id: str
    pipeline: str
    profile: str
    store: str
    parameters: dict[str, Any]
    created: str


def parameters(pipeline: ir.Pipeline, given: Mapping[str, str]) -> dict[str, Any]:
    """The values of a run's parameters: what was given as text, and defaults.

    Raises:
      errors.UsageError: a parameter is unknown, missing or of another type.
    """
    values = {name: parameter.default for name, parameter in pipeline.parameters.items()}
    values |= parameters_lib.typed(pipeline, given)
    return {name: floats(value) for name, value in values.items()}


def floats(value: Any) -> Any:
    """The value as a proto holds it: every number is a float."""
    if isinstance(value, dict):
        return {key: floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [floats(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def resolve(task: ir.Task, run: Run, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a step, from the run's parameters and the `outputs` of finished steps by name.

    Raises:
      errors.WorkError: an input is missing or of another type than the component declares.
    """
    values = {}
    for name, source in task.parameters.items():
        value = _parameter(task, name, source, run, outputs)
        if value is not None:
            values[name] = value
        elif not task.component_spec.input_definitions.parameters[name].is_optional:
            raise errors.WorkError(f"the resolved input parameter is null: {name}")
    artifacts = {}
    for name, source in task.artifacts.items():
        if not source.producer:
            raise errors.WorkError(f"parent DAG does not have input artifact {source.key}")
        artifacts[name] = {"artifacts": [dict(one) for one in _produced(task, source, "artifacts", outputs) or []]}
    return {"parameterValues": _typed(task, values), "artifacts": artifacts}


def _parameter(task: ir.Task, name: str, source: ir.Input, run: Run, outputs: Mapping[str, Any]) -> Any:
    if source.producer:
        return _produced(task, source, "parameters", outputs)
    if source.key:
        if source.key not in run.parameters:
            raise errors.WorkError(f"parent DAG does not have input parameter {source.key}")
        return run.parameters[source.key]
    if source.constant is None:
        raise errors.WorkError(f"where parameter {name} comes from is not implemented by {run.profile}")
    told = {
        "{{$.pipeline_job_name}}": run.id,
        "{{$.pipeline_job_resource_name}}": run.id,
        "{{$.pipeline_job_uuid}}": run.id,
        "{{$.pipeline_task_name}}": task.name,
        "{{$.pipeline_task_uuid}}": "1",
        "{{$.pipeline_job_create_time_utc}}": run.created,
    }
    return told.get(source.constant, source.constant) if isinstance(source.constant, str) else source.constant


def _produced(task: ir.Task, source: ir.Input, what: str, outputs: Mapping[str, Any]) -> Any:
    if source.producer not in outputs:
        raise errors.WorkError(f"cannot find producer task {source.producer!r}")
    made = outputs[source.producer][what]
    if what == "artifacts" and source.key not in made:
        raise errors.WorkError(f"cannot find output {source.key!r} in producer task {source.producer!r}")
    return made.get(source.key)


def _typed(task: ir.Task, values: dict[str, Any]) -> dict[str, Any]:
    """Checks values against the component's declaration; text is what anything becomes where text is declared."""
    typed = dict(values)
    for name, spec in task.component_spec.input_definitions.parameters.items():
        kind = ir.parameter_type(spec)
        if name not in values:
            if not spec.is_optional and not spec.HasField("default_value"):
                raise errors.WorkError(
                    f"neither value nor default value provided for non-optional parameter {name!r}"
                )
        elif kind == "STRING":
            typed[name] = to_text(values[name])
        elif kind not in _KINDS or not isinstance(values[name], _KINDS[kind]):
            raise errors.WorkError(
                f"input parameter {name!r} type mismatch: expect {kind}, got {type(values[name]).__name__}"
            )
    return typed


def to_text(value: Any) -> str:
    """A parameter's value as text: JSON, but for text itself and null."""
    return "" if value is None else value if isinstance(value, str) else plain_json(value)


def will_trigger(task: ir.Task, inputs: dict[str, Any]) -> bool:
    """Whether the task's condition holds.

    Raises:
      errors.WorkError: the condition cannot be read, or has no value for these inputs.
    """
    if not task.condition:
        return True
    scope = {"inputs": {"parameter_values": inputs["parameterValues"], "artifacts": inputs["artifacts"]}}
    try:
        return cel.condition(task.condition)(scope)
    except cel.Error as error:
        raise errors.WorkError(f"condition {task.condition}: {error}") from error


def provision(task: ir.Task, run: Run, salt: str, private: str) -> dict[str, Any]:
    """Outputs of a step: URIs below the store, and files below the `private` folder for output parameters."""
    root = task_root(task, run, salt)
    artifacts = {}
    for name, spec in sorted(task.component_spec.output_definitions.artifacts.items()):
        artifact = {"name": name, "type": plain(spec.artifact_type), "uri": f"{root}/{name}"}
        if spec.HasField("metadata"):
            artifact["metadata"] = plain(spec.metadata)
        artifacts[name] = {"artifacts": [artifact]}
    return {
        "artifacts": artifacts,
        "parameters": {name: {"outputFile": os.path.join(private, name)} for name in task.output_parameters},
        "outputFile": f"{root}/{OUTPUT_FILES[run.profile]}",
    }


def add_log(outputs: dict[str, Any], root: str) -> None:
    """Adds the log that Kubeflow has each step write among its outputs (PUBLISH_LOGS, on by default)."""
    artifact = {"name": LOGS, "type": {"schemaTitle": "system.Artifact"}, "uri": f"{root}/{LOGS}"}
    outputs["artifacts"][LOGS] = {"artifacts": [artifact]}


def of_attempt(executor_input: dict[str, Any], attempt: int) -> dict[str, Any]:
    """What a step is given at its first attempt (0), or a later one: each has a log of its own."""
    given = copy.deepcopy(executor_input)
    for artifact in given["outputs"]["artifacts"].get(LOGS, {"artifacts": ()})["artifacts"]:
        artifact["uri"] += f"-{attempt}"
    return given


def plain(message: Any) -> Any:
    """A proto in its JSON form, as Python objects."""
    return json_format.MessageToDict(message)


def task_root(task: ir.Task, run: Run, salt: str) -> str:
    """Folder of everything one execution writes."""
    return "/".join((run.store, run.pipeline, run.id, task.name, salt))


def fingerprint(task: ir.Task, inputs: dict[str, Any], outputs: dict[str, Any]) -> str:
    """The key under which a step's outputs are found again; equal to the one Kubeflow computes.

    Artifacts of the input enter by name, which is their number in the metadata store, not by content.
    """
    if task.cache_key:
        return hashlib.sha256(f"{task.component}\0{task.cache_key}".encode()).hexdigest()
    specs = {name: made["artifacts"][0] for name, made in outputs["artifacts"].items()}
    key = {
        "inputArtifactNames": {
            name: _without_empty({"artifactNames": [artifact["name"] for artifact in made["artifacts"]]})
            for name, made in inputs["artifacts"].items()
        },
        "inputParameterValues": inputs["parameterValues"],
        "outputArtifactsSpec": {
            name: {key: value for key, value in spec.items() if key != "uri"} for name, spec in specs.items()
        },
        "outputParametersSpec": {name: task.output_parameters[name] for name in outputs["parameters"]},
        "containerSpec": _without_empty({"cmdArgs": [*task.command, *task.args], "image": task.image}),
    }
    return hash_key(key)


def hash_key(key: dict[str, Any]) -> str:
    """SHA-256 of a cache key in the JSON form of `cachekey.CacheKey`."""
    text = plain_json(_without_empty(key))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return hashlib.sha256(text.encode()).hexdigest()


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def plain_json(value: Any) -> str:
    """JSON as Go writes it: sorted, no blanks, whole numbers without a point."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{plain_json(key)}:{plain_json(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(plain_json, value)) + "]"
    if isinstance(value, float) and (value == 0 or 1e-6 <= abs(value) < 1e21):
        text = format(decimal.Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-")
    return json.dumps(value, ensure_ascii=False)

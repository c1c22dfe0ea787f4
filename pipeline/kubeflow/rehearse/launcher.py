"""What Kubeflow's launcher does around a container's command: fills in its arguments, runs it, collects its outputs.

Follows Kubeflow Pipelines 2.17: backend/src/v2/component/launcher_v2.go, and resolveContainerArgs of driver/util.go.
The store is a local folder, so what the launcher would copy to and from the bucket already lies where it belongs.
"""

import contextlib
import copy
import ctypes
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow import parameters
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import image
from longtail.pipeline.kubeflow.rehearse import in_process

_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)']}}")
_RAISED = re.compile(r"[A-Za-z_][\w.]*: \S")
_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


@dataclasses.dataclass(frozen=True)
class Runner:
    """How containers are run.

    Attributes:
      executables: folder of the executables of a fresh process; "" runs Python modules in this one.
      folder: the current folder of a container, empty when its command starts.
    """

    executables: str
    folder: str


def launch(task: ir.Task, executor_input: dict[str, Any], runner: Runner, log_file: str) -> dict[str, Any]:
    """Runs a step's container.

    Returns:
      Its outputs: {"artifacts": {key: [artifact]}, "parameters": {key: value}}.

    Raises:
      errors.WorkError: the command failed or its outputs cannot be read; the message ends with the log's path.
    """
    outputs = executor_input["outputs"]
    prepare_folders(outputs)
    status = execute(task, [*task.command, *task.args], executor_input, runner, log_file)
    for published in outputs["artifacts"].get(driver.LOGS, {"artifacts": ()})["artifacts"]:
        shutil.copyfile(log_file, published["uri"])
    if status:
        raise errors.WorkError(f"{last_words(log_file, status)}; log {log_file}")
    try:
        told = read_output(outputs["outputFile"])
        return {
            "artifacts": {name: [_merged(made, told, name)] for name, made in outputs["artifacts"].items()},
            "parameters": _parameters(task, outputs["parameters"], told),
        }
    except (OSError, ValueError, KeyError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise errors.WorkError(f"its outputs cannot be read: {line}; log {log_file}") from error


def prepare_folders(outputs: dict[str, Any]) -> None:
    """Makes the folders that outputs lie in, but none that an output is."""
    for parameter in outputs["parameters"].values():
        os.makedirs(os.path.dirname(parameter["outputFile"]), exist_ok=True)
    for made in outputs["artifacts"].values():
        os.makedirs(os.path.dirname(made["artifacts"][0]["uri"]), exist_ok=True)


def execute(
    task: ir.Task, command: Sequence[str], executor_input: dict[str, Any], runner: Runner, log_file: str
) -> int:
    """Runs a command of a step's container; returns its exit status."""
    filled = fill_in(task, command, executor_input)
    if not filled:
        raise errors.WorkError("it has no command: what its image would run cannot be known here")
    if not runner.executables and in_process.can_run(filled):
        return in_process.run(filled, task.env, runner.folder, log_file)
    executables = runner.executables or image.this_environment()
    env = image.environment(executables, runner.folder) | task.env
    with open(log_file, "ab") as log:
        try:
            process = subprocess.Popen(
                filled,
                cwd=runner.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except (OSError, ValueError) as error:  # a word with a null byte is a ValueError
            reason = error.strerror if isinstance(error, OSError) else error
            raise errors.WorkError(f"{filled[0]} cannot be run: {reason}") from error
        try:
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # a container ends with its command, whatever that started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _die_with_parent() -> None:
    """A rehearsal that is killed leaves no container behind, where the system can see to it."""
    if _prctl:
        _prctl(_KILL_WITH_PARENT, signal.SIGKILL)


def fill_in(task: ir.Task, command: Sequence[str], executor_input: dict[str, Any]) -> list[str]:
    """A command's words with their placeholders replaced, parameters first, as driver and launcher do in turn.

    Raises:
      errors.WorkError: a parameter named by a placeholder has no value.
    """
    values = executor_input["inputs"]["parameterValues"]

    def value(match: re.Match) -> str:
        if match.group(1) not in values:
            raise errors.WorkError(f"parameter {match.group(1)!r} not found in executor input")
        return driver.to_text(values[match.group(1)])

    # What names an output is left to the launcher as it is.
    words = [word if "$.outputs" in word else _PARAMETER.sub(value, word) for word in command]
    complete = _with_defaults(task, executor_input)
    placeholders = {"{{$}}": driver.plain_json(complete), **_placeholders(complete)}
    for placeholder, text in placeholders.items():
        words = [word.replace(placeholder, text) for word in words]
    return words


def _with_defaults(task: ir.Task, executor_input: dict[str, Any]) -> dict[str, Any]:
    complete = copy.deepcopy(executor_input)
    for name, spec in task.component_spec.input_definitions.parameters.items():
        if spec.HasField("default_value"):
            value = json_format.MessageToDict(spec.default_value)
            complete["inputs"]["parameterValues"].setdefault(name, value)
    return complete


def _placeholders(executor_input: dict[str, Any]) -> dict[str, str]:
    found = {}
    for side in ("inputs", "outputs"):
        for name, made in executor_input[side]["artifacts"].items():
            for field in ("uri", "path") if made["artifacts"] else ():
                found[f"{{{{$.{side}.artifacts['{name}'].{field}}}}}"] = made["artifacts"][0]["uri"]
    for name, value in executor_input["inputs"]["parameterValues"].items():
        found[f"{{{{$.inputs.parameters['{name}']}}}}"] = driver.to_text(value)
    for name, parameter in executor_input["outputs"]["parameters"].items():
        found[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
    return found


def read_output(path: str) -> dict[str, Any]:
    """The executor output a container left, if it left one.

    Raises:
      ValueError: it is no `ml_pipelines.ExecutorOutput`.
    """
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return json_format.MessageToDict(json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput()))
    except json_format.ParseError as error:
        raise ValueError(f"{path}: no executor output ({error})") from error


def _merged(provisioned: dict[str, Any], told: dict[str, Any], name: str) -> dict[str, Any]:
    """An output artifact as it was provisioned, with what the container said of it."""
    artifact = dict(provisioned["artifacts"][0])
    said = (told.get("artifacts", {}).get(name, {}).get("artifacts") or [{}])[0]
    if said.get("uri"):
        artifact["uri"] = said["uri"]
    metadata = artifact.get("metadata", {}) | said.get("metadata", {})
    return artifact | {"metadata": {key: stored(value) for key, value in metadata.items()}}


def stored(value: Any) -> Any:
    """A value of an artifact's metadata after its way through the metadata store.

    Raises:
      ValueError: the store holds no null.
    """
    if value is None:
        raise ValueError("null in an artifact's metadata: the metadata store takes none")
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    return {"struct": value} if isinstance(value, dict) else value


def _parameters(task: ir.Task, provisioned: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Output parameters: what the executor output says goes before the file that each was given."""
    values = dict(told.get("parameterValues", {}))
    for name, parameter in provisioned.items():
        if name not in values:
            kind = task.output_parameters[name]
            with open(parameter["outputFile"], encoding="utf-8") as file:
                text = file.read()
            values[name] = driver.floats(parameters.read(text if kind == "STRING" else text.strip(), kind))
    return values


def last_words(log_file: str, status: int) -> str:
    """The line of a log that says best why its step failed: what was raised last, else its last line."""
    with open(log_file, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip() for line in file if line.strip()]
    raised = [line for line in lines[-200:] if _RAISED.match(line)]
    said = (raised or lines or ["it said nothing"])[-1]
    return f"exit status {status}: {said.removeprefix('longtail: error: ')}"

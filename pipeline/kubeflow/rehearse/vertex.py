"""What Vertex AI does for a TFX pipeline and Kubeflow does not: resolvers, and driver hooks before the cache."""

import re
from collections.abc import Iterable
from typing import Any

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import launcher

_TERM = re.compile(r'(?P<field>[\w.]+)=(?P<value>"[^"]*"|[^\s"]+)')
_METADATA = re.compile(r"\{\{\$\.inputs\.artifacts\['(?P<input>[^']+)'\]\.metadata\['(?P<key>[^']+)'\]}}")


def run_hook(task: ir.Task, executor_input: dict[str, Any], runner: launcher.Runner, log_file: str) -> None:
    """Runs a step's pre-cache-check hook, and changes the executor input as the hook says.

    Raises:
      errors.WorkError: the hook failed.
    """
    outputs = executor_input["outputs"]
    launcher.prepare_folders(outputs)
    status = launcher.execute(task, task.hook, executor_input, runner, log_file)
    if status:
        raise errors.WorkError(f"its driver hook failed: {launcher.last_words(log_file, status)}; log {log_file}")
    try:
        told = launcher.read_output(outputs["outputFile"])
    except ValueError as error:
        raise errors.WorkError(f"its driver hook's output cannot be read: {error}") from error
    executor_input["inputs"]["parameterValues"] |= told.get("parameterValues", {})
    for name, made in told.get("artifacts", {}).items():
        artifact = outputs["artifacts"][name]["artifacts"][0]
        artifact["metadata"] = artifact.get("metadata", {}) | made["artifacts"][0].get("metadata", {})


def resolve(task: ir.Task, inputs: dict[str, Any], artifacts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Outputs of a resolver: for each query the newest artifact that answers it, or none.

    Args:
      task: the resolver.
      inputs: its resolved inputs.
      artifacts: every artifact there is, the newest first.

    Raises:
      errors.WorkError: a query is of another form than TFX's.
    """
    known = list(artifacts)
    found = {}
    for name, query in sorted(task.executor_spec.resolver.output_artifact_queries.items()):
        text = _filled(query.filter, inputs)
        terms = None if text is None else _terms(task, text)
        limit = query.limit or 1
        found[name] = [] if terms is None else [one for one in known if _answers(one, terms)][:limit]
    return {"artifacts": found, "parameters": {}}


def _filled(query: str, inputs: dict[str, Any]) -> str | None:
    """The query with its placeholders replaced; None where an input is empty, which no artifact answers."""
    text = query
    for match in _METADATA.finditer(query):
        artifacts = inputs["artifacts"].get(match["input"], {}).get("artifacts", [])
        if not artifacts or match["key"] not in artifacts[0].get("metadata", {}):
            return None
        text = text.replace(match.group(), driver.to_text(artifacts[0]["metadata"][match["key"]]))
    return text


def _terms(task: ir.Task, query: str) -> dict[str, str]:
    terms = {}
    for part in query.split(" AND "):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise errors.WorkError(f"the part {part!r} of its query cannot be read")
        terms[match["field"]] = match["value"].strip('"')
    return terms


def _answers(artifact: dict[str, Any], terms: dict[str, str]) -> bool:
    fields = {"name": artifact["name"], "uri": artifact["uri"], "state": "LIVE"}
    fields["schema_title"] = ir.title(artifact["type"])
    for key, value in artifact.get("metadata", {}).items():
        fields[f"metadata.{key}.{'string' if isinstance(value, str) else 'number'}_value"] = driver.to_text(value)
    return all(fields.get(field) == value for field, value in terms.items())

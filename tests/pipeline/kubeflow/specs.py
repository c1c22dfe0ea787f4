"""Small compiled pipelines, written by hand: steps of shell commands, so that none needs TFX."""

import yaml

TYPE = "title: tests.Made\ntype: object\n"


def step(command, outputs=("made",), inputs=None, parameters=None, **task):
    """A step.

    Args:
      command: of its container; text is a shell's.
      outputs: names of its output artifacts.
      inputs: {input artifact: (producer, output)}.
      parameters: {input parameter: (type, "{{name}}" of a pipeline's parameter or a constant)}.
      **task: more fields of the task.
    """
    inputs, parameters = inputs or {}, parameters or {}
    artifacts = {name: {"artifactType": {"instanceSchema": TYPE}} for name in outputs}
    component = {
        "inputDefinitions": {
            "artifacts": {name: {"artifactType": {"instanceSchema": TYPE}} for name in inputs},
            "parameters": {name: {"parameterType": kind} for name, (kind, _) in parameters.items()},
        },
        "outputDefinitions": {"artifacts": artifacts},
    }
    task = {
        "dependentTasks": sorted({producer for producer, _ in inputs.values()}),
        "inputs": {
            "artifacts": {
                name: {"taskOutputArtifact": {"producerTask": producer, "outputArtifactKey": key}}
                for name, (producer, key) in inputs.items()
            },
            "parameters": {name: _source(value) for name, (_, value) in parameters.items()},
        },
    } | task
    words = ["sh", "-ec", command] if isinstance(command, str) else command
    return {"task": task, "component": component, "executor": {"container": {"image": "image", "command": words}}}


def _source(value):
    if isinstance(value, str) and value.startswith("{{"):
        return {"componentInputParameter": value.strip("{}")}
    return {"runtimeValue": {"constant": value}}


def document(steps, parameters=None, **fields):
    """The pipeline spec of named steps; `parameters` are {name: specification}."""
    tasks, components, executors = {}, {}, {}
    for name, parts in steps.items():
        tasks[name] = {"taskInfo": {"name": name}, "componentRef": {"name": name}, **parts["task"]}
        components[name] = {**parts["component"], "executorLabel": f"{name}_executor"}
        executors[f"{name}_executor"] = parts["executor"]
    return {
        "pipelineInfo": {"name": "small"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "tests",
        "components": components,
        "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": parameters or {}}},
    } | fields


def write(path, *documents):
    """Writes documents to a file; returns its name."""
    path.write_text(yaml.safe_dump_all(documents))
    return str(path)

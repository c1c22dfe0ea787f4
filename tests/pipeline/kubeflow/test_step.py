"""A single step of a compiled pipeline becomes its own command, in a process of its own."""

import json
import subprocess
import sys

import pytest
import yaml

TELL = "import json, os, sys; print(json.dumps([json.loads(sys.argv[1]), sys.argv[2], os.environ['OWN']])); sys.exit(7)"
SPEC = {
    "pipelineInfo": {"name": "one"},
    "schemaVersion": "2.1.0",
    "deploymentSpec": {
        "executors": {
            "e": {
                "container": {
                    "image": "longtail:1",
                    "command": [sys.executable, "-c", TELL],
                    "args": ["{{$}}", "{{$.inputs.parameters['rate']}}"],
                    "env": [{"name": "OWN", "value": "kept"}],
                }
            }
        }
    },
    "components": {
        "c": {
            "executorLabel": "e",
            "inputDefinitions": {"parameters": {"rate": {"parameterType": "NUMBER_DOUBLE"}}},
        }
    },
    "root": {"dag": {"tasks": {"Trainer": {"taskInfo": {"name": "Trainer"}, "componentRef": {"name": "c"}}}}},
}


@pytest.fixture
def run(tmp_path):
    """Runs a step of SPEC on an executor input."""
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(SPEC))

    def ran(given, step="Trainer"):
        (tmp_path / "input.json").write_text(given)
        command = [sys.executable, "-m", "longtail.pipeline.kubeflow.step", tmp_path / "pipeline.yaml", step]
        return subprocess.run([*command, tmp_path / "input.json"], capture_output=True, text=True)

    return ran


def test_it_becomes_the_steps_command_with_the_executor_input_filled_in(run, tmp_path):
    output_file = tmp_path / "made" / "here" / "output.json"
    outputs = {"outputFile": str(output_file)}
    done = run(json.dumps({"inputs": {"parameterValues": {"rate": 0.5}}, "outputs": outputs}))
    assert done.returncode == 7
    given, rate, own = json.loads(done.stdout)
    assert given["inputs"]["parameterValues"] == {"rate": 0.5} and given["outputs"]["outputFile"] == str(output_file)
    assert (rate, own) == ("0.5", "kept")
    assert output_file.parent.is_dir()


@pytest.mark.parametrize(
    ("given", "step", "message"),
    [
        ("{}", "Tainer", "no step 'Tainer' with a command; it has Trainer"),
        ("{", "Trainer", "input.json: no executor input"),
        ("{}", "Trainer", "parameter 'rate' not found in executor input"),
    ],
)
def test_what_is_wrong_is_one_line(run, given, step, message):
    done = run(given, step)
    assert done.returncode in (1, 2) and message in done.stderr and done.stderr.count("\n") == 1

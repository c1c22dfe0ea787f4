"""What a step's container runs: TFX's entry point with Beam's arguments from outside the command."""

import json
import os

import pytest
from tfx.dsl.components.base import base_beam_executor

from longtail.models import errors
from longtail.pipeline import beam
from longtail.pipeline.kubeflow import entrypoint

REPORT = {"instanceSchema": "title: longtail.DriftReport\ntype: object\n"}


class Recorder(base_beam_executor.BaseBeamExecutor):
    """Writes down what it was given, or fails as it is told."""

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802 - TFX's name
        """Writes."""
        if exec_properties["fail"] == "user":
            raise errors.WorkError("stopped by the drift gate")
        if exec_properties["fail"]:
            raise ZeroDivisionError(exec_properties["fail"])
        [report] = output_dict["report"]
        assert not os.path.exists(report.uri)
        os.makedirs(os.path.join(report.uri, "deep"))
        with open(exec_properties["path"], "w") as file:
            json.dump(self._beam_pipeline_args, file)


@pytest.fixture
def run(tmp_path):
    """Returns f(fail, more output artifacts) -> (exit status, Beam's arguments)."""

    def once(fail="", more=()):
        path = tmp_path / "args.json"
        report = {"artifacts": [{"uri": str(tmp_path / "report"), "type": REPORT}]}
        given = {
            "inputs": {"parameterValues": {"path": str(path), "fail": fail}},
            "outputs": {
                "outputFile": str(tmp_path / "task" / "executor_output.json"),
                "artifacts": {"report": report, **dict(more)},
            },
        }
        types = {"parameters": {key: {"parameterType": "STRING"} for key in ("path", "fail")}}
        status = entrypoint.main(
            [
                *("--executor_class_path", f"{__name__}.Recorder"),
                *("--json_serialized_invocation_args", json.dumps(given)),
                *("--json_serialized_inputs_spec_args", json.dumps(types)),
            ]
        )
        return status, json.loads(path.read_text()) if path.exists() else None

    return once


def test_beam_arguments_come_from_the_environment(run, monkeypatch):
    monkeypatch.setenv(beam.ENVIRONMENT, '["--sdk_container_image=none", "--direct_num_workers=3"]')
    status, given = run()
    assert status == 0 and {"--direct_num_workers=3", "--sdk_container_image=none"} <= set(given)


def test_an_error_that_its_user_can_mend_is_one_line_and_its_status(run, capfd):
    status, given = run("user")
    assert (status, given) == (1, None)
    assert "longtail: error: stopped by the drift gate\n" in capfd.readouterr().err


def test_the_log_that_kubeflow_adds_to_the_outputs_is_left_to_its_launcher(run, tmp_path):
    log = tmp_path / "executor-logs-0"
    log.write_text("kept")
    logs = {"name": "executor-logs", "uri": str(log), "type": {"schemaTitle": "system.Artifact"}}
    assert run(more={"executor-logs": {"artifacts": [logs]}})[0] == 0
    told = json.loads((tmp_path / "task" / "executor_output.json").read_text())
    assert set(told["artifacts"]) == {"report"} and log.read_text() == "kept"


def test_an_attempt_finds_nothing_of_the_one_before(run):
    assert run()[0] == 0
    assert run()[0] == 0  # the recorder asserts that its output is not there


def test_of_several_workers_only_the_chief_makes_way_for_its_outputs(run, monkeypatch):
    assert run()[0] == 0
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    with pytest.raises(AssertionError):  # the recorder found what the chief had written
        run()
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers | {"task": {"type": "worker", "index": 0}}))
    assert run()[0] == 0


def test_any_other_error_is_raised_as_it_is(run):
    with pytest.raises(ZeroDivisionError, match="broken"):
        run("broken")

"""The local runner: Beam's arguments reach a step, and are no reason to run it again."""

import json
import os
import shutil
import sqlite3

import pytest
from tfx import v1 as tfx
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import component_spec

from longtail.components import artifacts
from longtail.pipeline.local import runner as local_runner


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes down the arguments it was given."""

    def Do(self, input_dict, output_dict, exec_properties):  # noqa: N802 - TFX's name
        """Writes."""
        [output] = output_dict["report"]
        with open(os.path.join(output.uri, "args.json"), "w") as file:
            json.dump(self._beam_pipeline_args, file)


class Spec(component_spec.ComponentSpec):
    PARAMETERS = {"text": component_spec.ExecutionParameter(type=str)}
    INPUTS = {}
    OUTPUTS = {"report": component_spec.ChannelParameter(type=artifacts.DriftReport)}


class Component(base_beam_component.BaseBeamComponent):
    SPEC_CLASS = Spec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)


@pytest.fixture
def run(tmp_path):
    """Returns f(Beam's arguments, text) -> (whether the cache answered, the arguments that the step was given)."""

    def once(beam_args, text="t"):
        results = []
        runner = local_runner.LocalRunner(lambda *_: None, results.append, ["--sdk_container_image=none", *beam_args])
        spec = Spec(text=text, report=tfx.dsl.Channel(type=artifacts.DriftReport))
        connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(tmp_path / "db"))
        runner.run(
            tfx.dsl.Pipeline(
                "p", str(tmp_path / "root"), connection, components=[Component(spec=spec)], enable_cache=True
            )
        )
        [result] = results
        with open(os.path.join(result.outputs["report"].uri, "args.json")) as file:
            return result.cached, json.load(file)

    return once


def test_beam_arguments_reach_a_beam_step(run):
    cached, given = run(["--direct_num_workers=3"])
    assert not cached and "--direct_num_workers=3" in given


def test_other_beam_arguments_are_answered_from_the_cache_and_other_settings_are_not(run):
    run(["--direct_num_workers=1"])
    assert run(["--direct_num_workers=2"]) == (True, run([])[1])
    assert not run(["--direct_num_workers=2"], text="other")[0]


def test_an_artifact_that_was_deleted_is_made_again(run, tmp_path):
    run([])
    shutil.rmtree(tmp_path / "root" / "Component" / "report")
    assert not run([])[0] and run([])[0]


def test_a_store_of_types_by_other_names_is_run_cold(run, tmp_path):
    run([])
    # As releases wrote it whose rooms were imported without `longtail.`
    with sqlite3.connect(tmp_path / "db") as store:
        store.execute("UPDATE Type SET name = 'components.DriftReport' WHERE name = 'longtail.DriftReport'")
        store.execute("UPDATE Type SET name = 'components.Component' WHERE name LIKE '%.Component'")
        store.execute(
            "UPDATE Context SET name = 'of another class' WHERE type_id = "
            "(SELECT id FROM Type WHERE name = 'execution_cache')"
        )
    assert not run([])[0] and run([])[0]

"""Runs the graph on this machine, one component after the other, and says what happens as it happens."""

import datetime
import functools
import logging
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import beam_executor_operator
from tfx.orchestration.portable import launcher
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.orchestration.portable import tfx_runner
from tfx.proto.orchestration import executable_spec_pb2
from tfx.proto.orchestration import placeholder_pb2

from longtail.models import errors

log = logging.getLogger("longtail")

_DONE = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class StepResult:
    """What one component did: seconds it took, whether the cache answered, and its artifacts by output key."""

    def __init__(self, name: str, seconds: float, cached: bool, outputs: dict[str, metadata_store_pb2.Artifact]):
        self.name = name
        self.seconds = seconds
        self.cached = cached
        self.outputs = outputs


class _BeamOperator(beam_executor_operator.BeamExecutorOperator):
    """Gives a step Beam's arguments when it runs.

    In the pipeline itself they would be part of its executor's spec, and that of the cache key: how many workers do a
    work changes nothing of what it comes to.
    """

    def __init__(self, executor_spec, platform_config=None, beam_args: Sequence[str] = ()):
        super().__init__(executor_spec, platform_config)
        for argument in beam_args:
            expression = placeholder_pb2.PlaceholderExpression()
            expression.value.string_value = argument
            self.beam_pipeline_args.append(expression)


class LocalRunner(tfx_runner.IrBasedRunner):
    """TFX's local runner with eyes: it reports each component, and stops where one did not complete.

    The stock LocalDagRunner logs a component whose inputs could not be resolved and goes on to the next.

    Args:
      on_start: called with (component, position, number of components) before each.
      on_end: called with a `StepResult` after each.
      beam_args: of every step that runs on Beam.
    """

    def __init__(
        self,
        on_start: Callable[[str, int, int], None],
        on_end: Callable[[StepResult], None],
        beam_args: Sequence[str],
    ):
        self._on_start = on_start
        self._on_end = on_end
        operator = functools.partial(_BeamOperator, beam_args=beam_args)
        self._operators: dict[Any, Any] = {executable_spec_pb2.BeamExecutableSpec: operator}

    def run_with_ir(self, pipeline, run_options=None) -> None:
        """Runs a compiled pipeline.

        Raises:
          errors.WorkError: a component did not complete; what its executor raised, where it raised.
        """
        del run_options
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: datetime.datetime.now().isoformat()}
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection = deployment.metadata_connection_config
        connection = getattr(connection, connection.WhichOneof("connection_config"))
        for position, node in enumerate(pipeline.nodes):
            name = node.pipeline_node.node_info.id
            self._on_start(name, position, len(pipeline.nodes))
            started = time.monotonic()
            execution = launcher.Launcher(
                pipeline_node=node.pipeline_node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, name),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, name),
                custom_executor_operators=self._operators,
            ).launch()
            assert execution is not None  # a node without one has a condition; the graph has none
            with metadata.Metadata(connection) as handle:
                state, outputs = _look_up(handle.store, execution.execution_id)
            if state not in _DONE:
                raise errors.WorkError(
                    f"{name} did not run: an input is missing; the log says which, and who should have made it"
                )
            cached = state == metadata_store_pb2.Execution.CACHED
            self._on_end(StepResult(name, time.monotonic() - started, cached, outputs))


def _look_up(store, execution_id: int | None):
    [execution] = store.get_executions_by_id([execution_id])
    events = store.get_events_by_execution_ids([execution_id])
    ids = [event.artifact_id for event in events if event.type == metadata_store_pb2.Event.OUTPUT]
    names = {
        event.artifact_id: event.path.steps[0].key
        for event in events
        if event.type == metadata_store_pb2.Event.OUTPUT
    }
    return execution.last_known_state, {names[a.id]: a for a in store.get_artifacts_by_id(ids)}

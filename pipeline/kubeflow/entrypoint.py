"""What the container of a step runs: TFX's own entry point, with Beam's arguments from the environment.

    python -m longtail.pipeline.kubeflow.entrypoint --executor_class_path ... --json_serialized_invocation_args ...

In the command itself Beam's arguments would be part of Kubeflow's cache key (its `ContainerSpec` is image, command and
names of volumes: Kubeflow Pipelines 2.17.0, backend/src/v2/cacheutils/cache.go), which they are no reason to change.

Kubeflow's driver gives every step an output that its component does not have, `executor-logs` of type `system.Artifact`
(same release, backend/src/v2/driver/driver.go: provisionOutputs; on unless PUBLISH_LOGS says otherwise). The launcher
fills it, and TFX, which imports the class of every output by its type's name, would stop at it.
"""

import json
import os
import sys
from typing import Any

from absl import logging
from tfx.dsl.io import fileio
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from longtail.models.training import workers
from longtail.pipeline import beam
from longtail.pipeline.kubeflow.rehearse import driver

_INVOCATION = "--json_serialized_invocation_args"


def main(arguments: list[str]) -> int:
    """Runs one step.

    Args:
      arguments: of TFX's entry point.

    Returns:
      The exit status: 0, or that of an error which its user can mend, said in one line on standard error.
    """
    logging.use_absl_handler()
    place = arguments.index(_INVOCATION) + 1
    executor_input = json.loads(arguments[place])
    executor_input.get("outputs", {}).get("artifacts", {}).pop(driver.LOGS, None)
    given = [*arguments, *json.loads(os.environ.get(beam.ENVIRONMENT, "[]"))]
    given[place] = json.dumps(executor_input)
    try:
        if _leads():
            _clear(executor_input)
        kubeflow_v2_run_executor.main(kubeflow_v2_run_executor._parse_flags(given))
    except Exception as error:
        status = getattr(error, "exit_status", None)
        if status is None:
            raise
        print(f"longtail: error: {error}", file=sys.stderr)
        return status
    return 0


def _leads() -> bool:
    """Whether the outputs are this process's: of several workers that train together, the chief's."""
    asked = workers.cluster(os.environ.get(workers.VARIABLE, ""))
    return asked is None or asked.leads


def _clear(executor_input: dict[str, Any]) -> None:
    """Removes what an attempt that was cut left behind: Kubernetes tries again with the very same outputs.

    Transform and Trainer, for two, write over nothing. Kubeflow gives every run of a step outputs of its own
    (backend/src/v2/driver/driver.go: provisionOutputs), so that nobody else's are there.
    """
    for made in executor_input.get("outputs", {}).get("artifacts", {}).values():
        for artifact in made["artifacts"]:
            uri = artifact["uri"]
            if fileio.isdir(uri):
                fileio.rmtree(uri)
            elif fileio.exists(uri):
                fileio.remove(uri)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What Kubeflow or Vertex AI would not run, or what cannot be rehearsed, is refused before anything runs."""

import pytest

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from longtail.pipeline.kubeflow.rehearse import refusals
from tests.pipeline.kubeflow import specs

UP = "../../../../up"


def check(steps, profile=driver.KFP, **fields):
    refusals.check(ir.read([specs.document(steps, **fields)], "p.yaml"), profile)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"A": specs.step("true", triggerPolicy={"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"})}, "graphs within the"),
        ({"A": specs.step("true", parameterIterator={"itemInput": "x"})}, "loops are not rehearsed"),
        ({"A": specs.step("true", inputs={"given": ("A_task", "made")})}, "task 'A_task', which does not exist"),
        ({UP: specs.step("true")}, f"the step's name '{UP}' has other signs than letters"),
        ({"A": specs.step("true", outputs=(UP,))}, f"an output's name '{UP}' has other signs than letters"),
    ],
)
def test_a_step_that_cannot_be_rehearsed_is_named_with_the_reason(steps, message):
    for profile in (driver.KFP, driver.VERTEX):
        with pytest.raises(errors.WorkError, match=f"p.yaml: {next(iter(steps))}: .*{message}"):
            check(steps, profile)


def test_a_pipelines_name_leads_to_no_folder_outside_of_the_root():
    with pytest.raises(errors.WorkError, match="p.yaml: the pipeline's name .* becomes a folder's"):
        check({"A": specs.step("true")}, pipelineInfo={"name": UP})


def test_kubeflow_alone_wants_every_producer_awaited():
    late = specs.step("true", inputs={"given": ("A", "made")}, dependentTasks=[])
    with pytest.raises(errors.WorkError, match="B: it takes an output of A but does not wait for it"):
        check({"A": specs.step("true"), "B": late})
    check({"A": specs.step("true"), "B": late}, driver.VERTEX)
    through = specs.step("true", dependentTasks=["A"])
    check({"A": specs.step("true"), "B": late | {"task": late["task"] | {"dependentTasks": ["C"]}}, "C": through})


def test_kubeflow_alone_refuses_an_importers_condition():
    imported = specs.step("", triggerPolicy={"condition": "true"})
    imported["executor"] = {"importer": {"artifactUri": {"constant": "/data"}}}
    with pytest.raises(errors.WorkError, match="A: triggerPolicy.condition on importer task is not supported"):
        check({"A": imported})
    check({"A": imported}, driver.VERTEX)

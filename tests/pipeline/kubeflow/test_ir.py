"""A compiled pipeline is read whole, or refused in one line that says what is wrong with it."""

import copy

import pytest

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from tests.pipeline.kubeflow import specs

STEPS = {
    "Alpha": specs.step(
        "true", inputs={"given": ("Omega", "made")}, parameters={"size": ("NUMBER_INTEGER", "{{size}}")}
    ),
    "Beta": specs.step("true", dependentTasks=["Alpha"]),
    "Omega": specs.step(["python", "-m", "x"], outputs=("left", "made"), cachingOptions={"enableCache": True}),
}
PARAMETERS = {"size": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3, "isOptional": True}}


def read(document, *more):
    return ir.read([document, *more], "p.yaml")


def test_tasks_come_after_what_they_wait_for():
    pipeline = read(specs.document(STEPS, PARAMETERS))
    assert [task.name for task in pipeline.tasks] == ["Omega", "Alpha", "Beta"]


def test_a_task_says_where_everything_comes_from():
    pipeline = read(specs.document(STEPS, PARAMETERS, defaultPipelineRoot="gs://bucket/root"))
    omega, alpha, _ = pipeline.tasks
    assert (omega.kind, omega.image, omega.command) == ("container", "image", ("python", "-m", "x")) and omega.caching
    assert omega.outputs == {"left": "tests.Made", "made": "tests.Made"}
    assert alpha.parameters == {"size": ir.Input(key="size")}
    assert alpha.artifacts == {"given": ir.Input("Omega", "made")} and alpha.producers == {"Omega"}
    assert pipeline.parameters == {"size": ir.Parameter("size", "NUMBER_INTEGER", 3.0, True)}
    assert (pipeline.name, pipeline.root, pipeline.sdk) == ("small", "gs://bucket/root", "tests")


def test_fields_newer_than_the_installed_protos_are_read():
    document = specs.document({"Omega": specs.step("true", cachingOptions={"enableCache": True, "cacheKey": "mine"})})
    resources = {"resourceCpuLimit": "2", "cpuLimit": 2.0, "accelerator": {"resourceType": "gpu", "resourceCount": "1"}}
    document["deploymentSpec"]["executors"]["Omega_executor"]["container"]["resources"] = resources
    before = copy.deepcopy(document)
    [task] = read(document).tasks
    assert task.resources == resources and task.cache_key == "mine"
    assert document == before


def test_a_second_document_is_the_platform_spec(tmp_path):
    selected = {"nodeSelector": {"labels": {"pool": "gpu"}}}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"Omega_executor": selected}}}}}
    path = specs.write(tmp_path / "p.yaml", specs.document(STEPS, PARAMETERS), platform)
    assert {task.name: task.platform for task in ir.load(path).tasks} == {"Alpha": {}, "Beta": {}, "Omega": selected}


def test_a_producer_that_does_not_exist_is_left_to_whoever_judges_the_pipeline():
    document = specs.document({"Alpha": specs.step("true", inputs={"given": ("Omega_task", "made")})})
    [task] = read(document).tasks
    assert task.producers == {"Omega_task"}


def with_(change):
    document = copy.deepcopy(specs.document(STEPS, PARAMETERS))
    change(document)
    return document


def made(document, schema):
    document["components"]["Beta"]["outputDefinitions"]["artifacts"]["made"]["artifactType"]["instanceSchema"] = schema


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a compiled pipeline"),
        ({"pipelineSpec": {}}, "a pipeline job in JSON"),
        ({"other": 1}, "0 pipeline specs"),
        (with_(lambda d: d.update(schemaVersion="2.0.0")), "schemaVersion is 2.0.0; Kubeflow Pipelines runs 2.1.0"),
        (with_(lambda d: d.update(unheard=1)), 'no field named "unheard"'),
        (with_(lambda d: d.update(pipelineInfo={})), "pipelineInfo.name is empty"),
        (with_(lambda d: d["root"].update(dag={})), "root.dag.tasks is empty"),
        (with_(lambda d: d["components"].pop("Beta")), "task Beta: there is no component 'Beta'"),
        (with_(lambda d: d["deploymentSpec"]["executors"].clear()), "there is no executor 'Alpha_executor'"),
        (with_(lambda d: made(d, "a: [")), "Beta: artifact made: its instanceSchema is no YAML mapping"),
        (with_(lambda d: made(d, "[1]")), "Beta: artifact made: its instanceSchema is no YAML mapping"),
        (
            with_(lambda d: d["root"]["inputDefinitions"]["parameters"]["size"].update(parameterType=99)),
            "root: parameter size: no type 99",
        ),
        (
            with_(lambda d: d["root"]["dag"]["tasks"]["Omega"].update(dependentTasks=["Beta"])),
            'tasks ["Alpha", "Beta", "Omega"] wait for each other',
        ),
    ],
)
def test_what_is_no_pipeline_is_refused_in_one_line(document, message):
    with pytest.raises(errors.UsageError) as caught:
        read(document)
    assert message in str(caught.value) and str(caught.value).startswith("p.yaml") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), (None, "cannot be read (No such file")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, text, message):
    path = tmp_path / "p.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(errors.UsageError) as caught:
        ir.load(str(path))
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)

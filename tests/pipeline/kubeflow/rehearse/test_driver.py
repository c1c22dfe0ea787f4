"""What is decided before a container starts is what Kubeflow's driver decides, down to the cache key."""

import json

import hypothesis
import pytest
from hypothesis import strategies

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow.rehearse import driver
from tests.pipeline.kubeflow import specs

RUN = driver.Run("r1", "small", driver.KFP, "/store", {"size": 3.0, "none": None}, "2026-01-01T00:00:00Z")
MADE = {"name": "7", "type": {"instanceSchema": specs.TYPE}, "uri": "/store/made", "metadata": {"ok": 1.0}}


def task(**fields):
    steps = {"Made": specs.step("true"), "One": specs.step("true", inputs={"given": ("Made", "made")}, **fields)}
    return ir.read([specs.document(steps)], "p.yaml").tasks[1]


def resolve(one, outputs=None):
    made = {"artifacts": {"made": [MADE]}, "parameters": {}}
    return driver.resolve(one, RUN, {"Made": made} if outputs is None else outputs)


def test_inputs_are_constants_parameters_and_what_was_made_before():
    one = task(parameters={"a": ("STRING", "x"), "b": ("NUMBER_INTEGER", "{{size}}"), "c": ("BOOLEAN", True)})
    assert resolve(one) == {
        "parameterValues": {"a": "x", "b": 3.0, "c": True},
        "artifacts": {"given": {"artifacts": [MADE]}},
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (0.00001, "0.00001"),
        (1e-07, "1e-7"),
        (1e21, "1e+21"),
        (True, "true"),
        ({"b": 1, "a": [1.5]}, '{"a":[1.5],"b":1}'),
    ],
)
def test_where_text_is_declared_anything_becomes_text(value, text):
    assert resolve(task(parameters={"a": ("STRING", value)}))["parameterValues"] == {"a": text}


@pytest.mark.parametrize(
    ("placeholder", "value"),
    [("pipeline_job_uuid", "r1"), ("pipeline_task_name", "One"), ("pipeline_job_create_time_utc", RUN.created)],
)
def test_constants_that_name_the_run_are_filled_in(placeholder, value):
    one = task(parameters={"a": ("STRING", "x")})
    one.parameters["a"] = ir.Input(constant=f"{{{{$.{placeholder}}}}}")
    assert resolve(one)["parameterValues"] == {"a": value}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"a": ("NUMBER_INTEGER", "3")}, "input parameter 'a' type mismatch: expect NUMBER_INTEGER, got str"),
        ({"a": ("BOOLEAN", 1)}, "expect BOOLEAN, got float"),
        ({"a": ("STRING", "{{other}}")}, "parent DAG does not have input parameter other"),
        ({"a": ("STRING", "{{none}}")}, "the resolved input parameter is null: a"),
    ],
)
def test_a_parameter_of_another_type_or_none_stops_the_step(parameters, message):
    with pytest.raises(errors.WorkError, match=message):
        resolve(task(parameters=parameters))


def test_an_input_that_nobody_made_stops_the_step():
    with pytest.raises(errors.WorkError, match="^cannot find producer task 'Made'"):
        resolve(task(), {})
    with pytest.raises(errors.WorkError, match="cannot find output 'made' in producer task 'Made'"):
        resolve(task(), {"Made": {"artifacts": {}, "parameters": {}}})


def test_a_condition_sees_metadata_and_an_error_in_it_stops_the_step():
    text = "inputs.artifacts['given'].artifacts[0].metadata['ok'] == %s"
    for number, value in (("1.0", True), ("2.0", False)):
        one = task(triggerPolicy={"condition": text % number})
        assert driver.will_trigger(one, resolve(one)) is value
    one = task(triggerPolicy={"condition": "inputs.parameter_values['x'] == 1"})
    with pytest.raises(errors.WorkError, match="^condition .*: no such key: x"):
        driver.will_trigger(one, resolve(one))


def test_outputs_lie_below_store_pipeline_run_task_and_execution():
    outputs = driver.provision(task(), RUN, "salt", "/private")
    root = "/store/small/r1/One/salt"
    assert outputs["outputFile"] == f"{root}/output_metadata.json"
    made = {"name": "made", "type": {"instanceSchema": specs.TYPE}, "uri": f"{root}/made"}
    assert outputs["artifacts"] == {"made": {"artifacts": [made]}}


def test_a_step_is_given_a_log_of_its_own_for_each_attempt():
    outputs = driver.provision(task(), RUN, "salt", "/private")
    driver.add_log(outputs, "/store/root")
    second = driver.of_attempt({"outputs": outputs}, 1)["outputs"]["artifacts"]
    [log] = second[driver.LOGS]["artifacts"]
    assert (log["type"], log["uri"]) == ({"schemaTitle": "system.Artifact"}, "/store/root/executor-logs-1")
    assert second["made"] == outputs["artifacts"]["made"]


def test_the_cache_key_is_the_one_kubeflow_computes():
    # The keys and hashes of cache_test.go in Kubeflow Pipelines 2.17.0, backend/src/v2/cacheutils.
    fields = "".join(f"  {name}:\n    type: string\n" for name in ("framework", "framework_version"))
    model = f"title: kfp.Model\ntype: object\nproperties:\n{fields}"
    key = {
        "inputArtifactNames": {"dataset_one": {"artifactNames": ["1"]}, "dataset_two": {"artifactNames": ["2"]}},
        "inputParameterValues": {"message": "Some string value", "num_steps": 5.0},
        "outputArtifactsSpec": {
            "model": {"name": "model", "type": {"instanceSchema": model}, "metadata": {"name": "model"}},
            "metrics": {"name": "metrics", "type": {"schemaTitle": "kfp.Metrics"}, "metadata": {"name": "metrics"}},
        },
        "outputParametersSpec": {"output_parameter_one": "STRING", "output_parameter_two": "INT"},
        "containerSpec": {"cmdArgs": ["sh", "ec", "test"], "image": "python:3.11"},
    }
    assert driver.hash_key(key) == "b498530c9016917298999ec0b01f364a180f8a3862bea0fa672a383ca3f22e4e"
    key = {
        "inputArtifactNames": {"dataset": {"artifactNames": ["10"]}},
        "inputParameterValues": {},
        "outputParametersSpec": {"output_parameter": "DOUBLE"},
        "containerSpec": {"cmdArgs": ["sh", "ec", "run"], "image": "python:3.11"},
    }
    assert driver.hash_key(key) == "3d9a2a778fa3174c6cfc6e639c507c265b5f21ef6e5b1dd70b236462cc6da464"


def test_the_cache_key_knows_parameters_artifacts_and_command_but_no_uri():
    def key(one, artifact=MADE, salt="1"):
        inputs = resolve(one, {"Made": {"artifacts": {"made": [artifact]}, "parameters": {}}})
        return driver.fingerprint(one, inputs, driver.provision(one, RUN, salt, "/private"))

    base = task(parameters={"a": ("STRING", "x")})
    assert key(base) == key(base, MADE | {"uri": "/elsewhere", "metadata": {}}, "2")
    other = task(parameters={"a": ("STRING", "y")})
    mine = task(parameters={"a": ("STRING", "y")}, cachingOptions={"enableCache": True, "cacheKey": "mine"})
    assert len({key(base), key(other), key(mine), key(base, MADE | {"name": "8"})}) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "size has no default"), ({"size": "3", "other": "1"}, "no parameter 'other'"), ({"size": "x"}, "size")],
)
def test_a_wrong_parameter_of_the_run_is_named(given, message):
    parameters = {"size": {"parameterType": "NUMBER_INTEGER"}, "name": {"parameterType": "STRING", "defaultValue": "n"}}
    pipeline = ir.read([specs.document({"One": specs.step("true")}, parameters)], "p.yaml")
    assert driver.parameters(pipeline, {"size": "3"}) == {"size": 3.0, "name": "n"}
    with pytest.raises(errors.UsageError, match=message):
        driver.parameters(pipeline, given)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.text() | strategies.floats(-1e300, 1e300),
        lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
        max_leaves=10,
    )
)
def test_json_as_go_writes_it_holds_the_same_value(value):
    assert json.loads(driver.plain_json(value), parse_int=float) == value

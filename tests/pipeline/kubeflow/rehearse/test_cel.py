"""Conditions are read and evaluated as cel-go does for Kubeflow; whatever else is in the text is refused."""

import pytest

from longtail.pipeline.kubeflow.rehearse import cel

SCOPE = {
    "inputs": {
        "parameter_values": {"type": "foo", "num": 1.0, "flag": True, "none": None, "text": '{"a": [1, 2]}'},
        "artifacts": {
            "model": {"artifacts": [{"uri": "gs://bucket/model", "metadata": {"accuracy": 0.95, "ok": 1.0}}]},
            "nothing": {"artifacts": []},
        },
    }
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.parameter_values['type']=='foo'", True),
        ("inputs.parameter_values['type'] != \"foo\"", False),
        ("inputs.parameter_values['num'] == 1", True),
        ("inputs.parameter_values['num'] == '1'", False),
        ("inputs.parameter_values['flag'] == 1", False),
        ("inputs.parameter_values['none'] == null", True),
        ("inputs.artifacts['model'].artifacts[0].metadata['accuracy']*100.0 > 90.0", True),
        ("inputs.artifacts['model'].artifacts[0].metadata['accuracy']*100.0 <= 90.0", False),
        ("inputs.artifacts['model'].artifacts[0].uri == ('gs://' + 'bucket/model')", True),
        ("!((inputs.artifacts['model'].artifacts[0].metadata['ok'] == 1.0))", False),
        ("size(inputs.artifacts['nothing'].artifacts) == 0", True),
        ("int('5') > 3 && -1.0 < 1e-05 && 2 - 3 * 2 == -4", True),
        ("bool('true') && string(1.0) == '1' && double('0.5') >= .5", True),
        ("parseJson(inputs.parameter_values['text']).a[1] == 2.0", True),
        ("true || false && false", True),
        (r"'it\'s' == "'"it\'s"', True),
        ("1 - 2 - 3 == -4 && 2 + 3 * 4 == 14 && !(1 == 2) == true", True),
        ("string(1000000.0) + string(0.1234567) + string(100.0) == '1e+060.1234567100'", True),
        ("parseJson('[true, {\"a\": 1}]') == parseJson('[1, {\"a\": 1}]')", False),
        ("parseJson('[1, {\"a\": 1}]') == parseJson('[1.0, {\"a\": 1}]')", True),
    ],
)
def test_a_condition_has_its_value(text, value):
    assert cel.condition(text)(SCOPE) is value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("inputs.parameter_values['other'] == 1", "no such key: other"),
        ("inputs.artifacts['nothing'].artifacts[0].uri == 'x'", "index out of bounds: 0"),
        ("inputs.parameter_values['type']", "neither true nor false"),
        ("inputs.parameter_values['type'] < 1", "no overload: string < int"),
        ("1 + 1.0 == 2.0", "no overload: int + double"),
        ("!1 == 1", "no overload: !int"),
        ("int('many') == 1", "has no value"),
        ("int(' 5') == 5", "has no value"),
        ("double('1_0') == 10.0", "has no value"),
        ("9223372036854775807 + 1 == 1", "has no value"),
        ("inputs[inputs] == 1", "no such key"),
        ("parseJson('" + "[" * 100_000 + "') == 1", "nested too deeply"),
        ("true && " * 3000 + "true", "nested too deeply"),
        ("outputs == 1", "there is no 'outputs'"),
        ("inputs.parameter_values.num.deeper == 1", "double has no 'deeper'"),
    ],
)
def test_a_condition_without_a_value_says_why(text, reason):
    with pytest.raises(cel.Error, match=reason.replace("[", r"\[").replace("+", r"\+")):
        cel.condition(text)(SCOPE)


@pytest.mark.parametrize(
    "text",
    ["", "1 ==", "(1 == 1", "'open", "a == 'b' c", "1 ** 2 == 1", "__import__('os')", "x[0", "1; 2", r"'\q' == ''"]
    + ["'it's' == ''", "\u0663 == 3", "1. == 1.0", "9" * 5000 + " == 1", "(" * 5000 + "true" + ")" * 5000, "!" * 5000],
)
def test_what_is_no_condition_is_refused_when_it_is_read(text):
    with pytest.raises(cel.Error) as caught:
        cel.condition(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_an_operand_that_decides_alone_hides_the_errors_of_the_other():
    failing = "inputs.parameter_values['other'] == 1"
    assert cel.condition(f"{failing} || true")(SCOPE) is True
    assert cel.condition(f"false && {failing}")(SCOPE) is False
    assert cel.condition(f"{failing} && false")(SCOPE) is False
    with pytest.raises(cel.Error, match="no such key"):
        cel.condition(f"{failing} || false")(SCOPE)


def test_every_predicate_that_tfx_writes_is_read():
    from tfx import v1 as tfx
    from tfx.dsl.placeholder import placeholder
    from tfx.orchestration.kubeflow.v2 import compiler_utils
    from tfx.types import channel_utils

    model = tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model)
    one = model.future()[0]
    for predicate, value in (
        (one.custom_property("ok") == 1, True),
        (one.custom_property("ok") != 1, False),
        (one.property("accuracy") > 0.99, False),
        (one.property("accuracy") < 1e20, True),
        (placeholder.logical_and(one.custom_property("ok") == 1, one.uri == "gs://bucket/model"), True),
        (placeholder.logical_or(one.custom_property("ok") == 2, one.property("accuracy") >= 1e-07), True),
        (placeholder.logical_not(one.custom_property("ok") == 1), False),
        (one.uri + "/1" == "gs://bucket/model/1", True),
    ):
        encoded = channel_utils.encode_placeholder_with_channels(predicate, lambda channel: "model")
        text = compiler_utils.placeholder_to_cel(encoded)
        assert cel.condition(text)(SCOPE) is value, text

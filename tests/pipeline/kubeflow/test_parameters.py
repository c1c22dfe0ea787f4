"""Values of runtime parameters: those of a recipe are within the recipe's ranges before anything is started."""

import pytest

from longtail.models import errors
from longtail.pipeline.kubeflow import ir
from longtail.pipeline.kubeflow import parameters

OPEN = (
    ir.Parameter("head_name", "STRING", "cosface"),
    ir.Parameter("head_margin", "NUMBER_DOUBLE", 0.2),
    ir.Parameter("training_epochs", "NUMBER_INTEGER", 24.0),
    ir.Parameter("augment_flip", "NUMBER_INTEGER", 0.0),
    ir.Parameter("span", "NUMBER_INTEGER", 1.0),
    ir.Parameter("data", "STRING", "gs://b/data"),
)


def pipeline(name="longtail-glyphs"):
    return ir.Pipeline("p.yaml", name, "", "", {one.name: one for one in OPEN}, (), {}, {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"training_epochs": "0"}, "training_epochs must be a whole number from 1 to 1000000000, not 0"),
        ({"head_margin": "3"}, "head_margin must be a number from 0 to 1.6, not 3.0"),
        ({"head_name": "sphereface"}, "head_margin must be a number from 1 to 4, not 0.2"),
        ({"head_name": "cosfase"}, "head_name must be one of softmax, .*, not 'cosfase'"),
        ({"augment_flip": "2"}, "augment_flip must be true or false, not 2"),
        ({"span": "0"}, "span must be a whole number from 1 to 1000000000, not 0"),
    ],
)
def test_a_value_that_the_recipes_check_would_refuse_is_refused(given, said):
    with pytest.raises(errors.UsageError, match=f"^--param {said}$"):
        parameters.typed(pipeline(), given)


def test_values_within_the_ranges_of_each_other_are_taken():
    given = {"head_name": "sphereface", "head_margin": "1.5", "augment_flip": "1", "span": "3"}
    assert parameters.typed(pipeline(), given) == {
        "head_name": "sphereface",
        "head_margin": 1.5,
        "augment_flip": 1,
        "span": 3,
    }


def test_parameters_of_a_pipeline_that_is_not_ours_are_its_own():
    assert parameters.typed(pipeline("penguin"), {"training_epochs": "0"}) == {"training_epochs": 0}

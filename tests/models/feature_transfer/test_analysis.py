"""The analyses' figures, worked out by hand."""

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.feature_transfer import analysis


def test_coverage_is_the_largest_share_at_that_precision_even_behind_a_mistake():
    confidence = np.linspace(1.0, 0.0, 200)
    is_right = np.ones(200, bool)
    is_right[[50, 150]] = False
    assert analysis.coverage(confidence, is_right, 0.99) == 1.0
    is_right[160:] = False
    assert analysis.coverage(confidence, is_right, 0.99) == 150 / 200


def test_coverage_is_none_where_the_surest_answers_are_wrong():
    assert analysis.coverage(np.array([0.9, 0.1]), np.array([False, True]), 0.99) == 0.0


def test_centres_of_images_and_mirror_images_err_less_where_those_lie_on_the_other_side():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    apart = rng.normal(size=(60, 4))
    centre = 10.0 * np.eye(4)[labels]
    (found,) = analysis.centre_errors(centre + apart, centre - apart, labels, [1])
    assert found["average_flip"] < found["average_all"] == found["pick_one"]


def test_identities_of_too_few_images_are_refused_in_one_line():
    with pytest.raises(errors.UsageError, match="^1 identities have more than 5 images, two are needed[^\n]*$"):
        analysis.centre_errors(np.zeros([9, 2]), np.zeros([9, 2]), np.repeat([0, 1], [6, 3]), [5])

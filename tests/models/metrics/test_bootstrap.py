"""The bootstrap over seeds and identities, against a loop and where the answer is known."""

import numpy as np
import pytest
from scipy import stats

from longtail.models.metrics import bootstrap


def _differences(seeds, identities):
    return np.random.default_rng(3).normal(0.01, 0.05, (seeds, identities))


def test_the_interval_is_that_of_a_loop_over_draws_and_students_of_the_seeds():
    differences, weights = _differences(4, 7), np.arange(1.0, 8.0)
    of_seeds = [np.average(row, weights=weights) for row in differences]
    means = []
    for taken in bootstrap.draw_counts(7, draws=300, seed=5):
        columns = np.repeat(np.arange(7), taken)
        means.append(np.average(differences[:, columns].mean(axis=0), weights=weights[columns]))
    mean, student = np.mean(of_seeds), stats.ttest_1samp(of_seeds, 0.0).confidence_interval(0.9)
    low, high = np.quantile(means, [0.05, 0.95])
    expected = (
        mean - np.sqrt((mean - low) ** 2 + (mean - student.low) ** 2),
        mean + np.sqrt((mean - high) ** 2 + (mean - student.high) ** 2),
    )
    np.testing.assert_allclose(bootstrap.interval(differences, weights, 300, level=0.9, seed=5), expected, rtol=1e-12)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("of_seeds", [0.2, 2.0])
def test_an_interval_of_nothing_holds_zero_in_95_of_100_cases_however_few_the_seeds(seeds, of_seeds):
    random, held = np.random.default_rng(1), 0
    for _ in range(250):
        own = random.normal(0, of_seeds if seeds > 1 else 0.0, (seeds, 1)) / np.sqrt(60)
        differences = own + random.normal(0, 1, 60) + random.normal(0, 0.3, (seeds, 60))
        low, high = bootstrap.interval(differences, draws=100)
        held += low <= 0.0 <= high
    assert held / 250 >= 0.92


def test_each_draw_takes_as_many_as_there_are_with_replacement():
    drawn = bootstrap.draw_counts(40, draws=100, seed=0)
    assert (drawn.sum(axis=1) == 40).all()
    assert drawn.max() > 1 and drawn.min() == 0


def test_of_one_seed_it_is_the_means_normal_interval():
    differences = _differences(1, 2000)
    low, high = bootstrap.interval(differences, draws=4000)
    error = differences.std() / np.sqrt(2000)
    np.testing.assert_allclose([low, high], differences.mean() + 1.96 * error * np.array([-1, 1]), atol=0.15 * error)


def test_seeds_that_disagree_widen_the_interval():
    alike = np.tile(_differences(1, 200), (5, 1))
    apart = alike + np.linspace(-0.1, 0.1, 5)[:, None]
    width = [high - low for low, high in (bootstrap.interval(alike), bootstrap.interval(apart))]
    assert width[1] > 3 * width[0]


def test_an_identity_of_no_weight_does_not_count():
    low, high = bootstrap.interval([[0.5, 0.5, 9.0]], weights=[1.0, 1.0, 1e-12])
    assert low == pytest.approx(0.5) and high < 9.1


@pytest.mark.parametrize(
    ("differences", "weights"), [([0.1, 0.2], None), ([[0.1, 0.2]], [1.0]), (np.zeros((0, 3)), None)]
)
def test_shapes_that_do_not_fit_are_refused(differences, weights):
    with pytest.raises(ValueError, match="Received: shapes"):
        bootstrap.interval(differences, weights)


@pytest.mark.parametrize("weights", [[0.0, 1.0], [np.nan, 1.0], [-1.0, 1.0]])
def test_a_weight_that_is_none_is_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be finite and above 0"):
        bootstrap.interval([[0.1, 0.2]], weights)


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        bootstrap.interval([[0.1, np.nan]])

"""The bootstrap over seeds and identities, against a loop and where the answer is known."""

import numpy as np
import pytest

from longtail.models.metrics import bootstrap


def _differences(seeds, identities):
    return np.random.default_rng(3).normal(0.01, 0.05, (seeds, identities))


def test_the_interval_is_that_of_a_loop_over_draws():
    differences, weights = _differences(4, 7), np.arange(1.0, 8.0)
    means = []
    for of_seeds, of_identities in zip(*bootstrap.draw_counts(4, 7, draws=300, seed=5), strict=True):
        total = weight = 0.0
        for row in np.repeat(np.arange(4), of_seeds):
            for column in np.repeat(np.arange(7), of_identities):
                total += weights[column] * differences[row, column]
                weight += weights[column]
        means.append(total / weight)
    expected = np.quantile(means, [0.05, 0.95])
    np.testing.assert_allclose(bootstrap.interval(differences, weights, 300, level=0.9, seed=5), expected, rtol=1e-12)


def test_each_draw_takes_as_many_as_there_are_with_replacement():
    of_seeds, of_identities = bootstrap.draw_counts(5, 40, draws=100, seed=0)
    assert (of_seeds.sum(axis=1) == 5).all() and (of_identities.sum(axis=1) == 40).all()
    assert of_identities.max() > 1 and of_identities.min() == 0


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


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        bootstrap.interval([[0.1, np.nan]])

"""The map of embeddings: what t-SNE promises."""

import numpy as np
import pytest

from longtail.models.metrics import neighbour_map


@pytest.fixture(scope="module")
def clusters():
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 12)
    return random.normal(size=(8, 32))[labels] + 0.4 * random.normal(size=(96, 32)), labels


def test_clusters_stay_together_on_the_map(clusters):
    vectors, labels = clusters
    places = neighbour_map.tsne(vectors)
    distance = np.linalg.norm(places[:, None] - places, axis=-1) + 10 * np.eye(len(places))
    assert (labels[distance.argmin(axis=1)] == labels).mean() > 0.98


def test_places_span_the_unit_square_and_are_the_same_again(clusters):
    places = neighbour_map.tsne(clusters[0])
    assert places.min(axis=0).tolist() == [0, 0] and places.max(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal(places, neighbour_map.tsne(clusters[0]))


def test_each_neighbourhood_has_the_perplexity_that_is_asked_for(clusters):
    vectors = clusters[0] / np.linalg.norm(clusters[0], axis=1, keepdims=True)
    distance = 2 - 2 * vectors @ vectors.T
    found = []
    for row in range(len(distance)):  # each row's Gaussian again, by its own bisection in logarithms
        others = np.delete(distance[row], row)
        low, high = -6.0, 6.0
        for _ in range(60):
            middle = (low + high) / 2
            weight = np.exp(-(others - others.min()) * 10**middle)
            share = weight / weight.sum()
            wide = 2 ** -(share * np.log2(np.maximum(share, 1e-300))).sum() > 10
            low, high = (middle, high) if wide else (low, middle)
        found.append(np.insert(share, row, 0.0))
    wanted = (np.array(found) + np.array(found).T) / (2 * len(found))
    np.testing.assert_allclose(neighbour_map._neighbourhood(distance, 10), wanted, atol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_embeddings_and_equal_ones_have_places_too(count):
    assert np.isfinite(neighbour_map.tsne(np.ones((count, 4)))).all()

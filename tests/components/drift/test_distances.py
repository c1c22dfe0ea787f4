"""The energy coefficient of embeddings: its definition, what it finds, and where it gives no verdict."""

import numpy as np
import pytest

from longtail.components.data import features
from longtail.components.drift import distances
from longtail.models import errors


def test_the_energy_coefficient_is_its_definition():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(6, 3)), rng.normal(1.0, size=(9, 3))

    def mean(a, b):
        return np.mean([[np.linalg.norm(x - y) for y in b] for x in a])

    expected = (2 * mean(one, two) - mean(one, one) - mean(two, two)) / (2 * mean(one, two))
    group = np.repeat([0, 1, 2, 3, 4], 3)
    sides = np.array([[True, True, False, False, False]])
    found = distances.energies(np.concatenate([one, two]), group, sides)
    assert found == pytest.approx([expected])


def _clusters(identities, sign=1, seed=0):
    """Six unit vectors around a direction of each identity, or around the opposite one; and the identities."""
    centres = sign * np.random.default_rng(0).normal(size=(identities, 16))
    vectors = np.repeat(centres, 6, axis=0) + 0.2 * np.random.default_rng(seed).normal(size=(6 * identities, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(identities), 6).astype(np.uint64)


@pytest.mark.parametrize("identities", [12, 15, 20, 30])
def test_embeddings_turned_round_are_found_with_few_identities_too(identities):
    rows = distances.compare(*_clusters(identities, -1, 1), *_clusters(identities), {})
    own = [row["verdict"] for row in rows if row["feature"] == features.EMBEDDING_OWN]
    assert own == ["drifted"]


@pytest.mark.parametrize("identities", [5, 6, 8])
def test_where_chance_cannot_be_measured_there_is_no_verdict(identities):
    assert distances.compare(*_clusters(identities, -1, 1), *_clusters(identities), {}) == []


def test_a_recipes_threshold_holds_where_chance_cannot_be_measured():
    thresholds = {features.EMBEDDING_OWN: 0.3}
    rows = distances.compare(*_clusters(5, -1, 1), *_clusters(5), thresholds)
    assert [(row["feature"], row["verdict"]) for row in rows] == [(features.EMBEDDING_OWN, "drifted")]


def test_embeddings_that_are_not_finite_are_no_small_distance():
    vectors, identity = _clusters(20, 1, 1)
    vectors[7] = np.nan
    with pytest.raises(errors.WorkError, match="1 of 120 embeddings of the span"):
        distances.compare(vectors, identity, *_clusters(20), {})

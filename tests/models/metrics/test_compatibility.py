"""A map from old embeddings to new ones: least squares, and its cost counted as a brute force counts it."""

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.metrics import compatibility


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def people():
    """Embeddings of 60 people, four images each, by two models of one space; identities and files."""
    random = np.random.default_rng(0)
    centres = np.repeat(random.normal(size=(60, 12)), 4, axis=0)
    seen = centres + 0.4 * random.normal(size=centres.shape)
    old = seen @ random.normal(size=(12, 16)) + 0.3 * random.normal(size=(240, 16))
    return old, seen, np.repeat(np.arange(60), 4).astype(str), np.arange(240).astype(str)


def test_without_a_ridge_it_is_least_squares_on_unit_embeddings(people):
    old, new, *_ = people
    expected = np.linalg.lstsq(unit(old), unit(new), rcond=None)[0]
    np.testing.assert_allclose(compatibility.fit(old, new, ridge=0.0), expected, atol=1e-4)


def test_the_ridge_solves_its_normal_equations(people):
    x, y = unit(people[0]), unit(people[1])
    gram = x.T @ x + 0.5 * np.trace(x.T @ x) / 16 * np.eye(16)
    np.testing.assert_allclose(compatibility.fit(*people[:2], ridge=0.5), np.linalg.solve(gram, x.T @ y), atol=1e-5)


def test_mapped_embeddings_are_of_length_one(people):
    matrix = compatibility.fit(*people[:2])
    np.testing.assert_allclose(np.linalg.norm(compatibility.mapped(people[0], matrix), axis=1), 1.0, atol=1e-5)


def test_the_cost_is_what_a_brute_force_counts_on_people_that_were_not_fitted(people, monkeypatch):
    old, new, identities, digests = people
    fitted = []
    fit = compatibility.fit
    monkeypatch.setattr(compatibility, "fit", lambda *pair: fitted.append(pair) or fit(*pair))
    monkeypatch.setattr(compatibility, "_ROWS", 7)
    found = compatibility.measure(old, new, identities, digests, fmr=0.05)
    [(half, *_)] = fitted
    rest = [row for row in range(240) if not (old[row] == half).all(axis=1).any()]
    assert not set(identities[rest]) & {identities[row] for row in range(240) if row not in rest}
    queries, gallery = unit(new[rest]), unit(unit(old[rest]) @ fit(half, fitted[0][1]))
    passed = {True: [], False: []}
    for one, name in enumerate(identities[rest]):
        for other, second in enumerate(identities[rest]):
            if one != other:
                passed[name == second].append(queries[one] @ gallery[other] >= found.threshold)
    assert found.tpr_mapped == pytest.approx(np.mean(passed[True]), abs=0.005)
    assert found.fmr_mapped == pytest.approx(np.mean(passed[False]), abs=0.005)
    assert found.tpr_mapped < found.tpr and found.identities == 30


def test_a_file_is_not_compared_with_its_copy(people):
    twice = [np.concatenate([each, each]) for each in people]
    once, both = (compatibility.measure(*each, fmr=0.05) for each in (people, twice))
    assert both.tpr == once.tpr and both.tpr_mapped == pytest.approx(once.tpr_mapped, abs=1e-6)


def test_embeddings_of_another_space_match_nobody(people):
    old, new, *rest = people
    noise = np.random.default_rng(1).normal(size=old.shape)
    assert compatibility.measure(noise, new, *rest, fmr=0.05).tpr_mapped < 0.3


def test_a_rate_that_the_people_do_not_carry_is_refused(people):
    with pytest.raises(errors.WorkError, match="not carried by 6960 pairs"):
        compatibility.measure(*people, fmr=1e-4)


def test_numbers_of_images_that_differ_are_refused(people):
    with pytest.raises(ValueError, match="old has 240 rows and new 239"):
        compatibility.fit(people[0], people[1][:-1])

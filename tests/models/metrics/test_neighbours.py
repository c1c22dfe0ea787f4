"""Neighbours and confusions against a brute force over all pairs."""

import numpy as np
import pytest

from longtail.models.metrics import neighbours


@pytest.fixture(scope="module")
def data():
    """60 queries of six identities, 90 gallery images of five of them and of one more; ten files are in both."""
    random = np.random.default_rng(0)
    query, gallery = random.normal(size=(60, 6)), random.normal(size=(90, 6))
    query_ids = np.array(list("abcdef"))[random.integers(0, 6, 60)]
    gallery_ids = np.array(list("abcdeg"))[random.integers(0, 6, 90)]
    files, theirs = np.arange(60).astype(str), (np.arange(90) + 60).astype(str)
    gallery[:10], gallery_ids[:10], theirs[:10] = query[:10], query_ids[:10], files[:10]
    return query, query_ids, gallery, gallery_ids, files, theirs


def cosines(query, gallery):
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, gallery)]
    return unit[0] @ unit[1].T


@pytest.mark.parametrize("cells", [1, 1000, 1 << 24])
def test_the_nearest_are_those_of_a_brute_force_whatever_the_chunk(data, monkeypatch, cells):
    monkeypatch.setattr(neighbours, "_CELLS", cells)
    query, query_ids, gallery, gallery_ids, files, theirs = data
    found = neighbours.search(query, query_ids, gallery, gallery_ids, files, theirs, 5)
    similarity = cosines(query, gallery)
    for row in range(len(query)):
        others = [at for at in range(len(gallery)) if theirs[at] != files[row]]
        best = sorted(others, key=lambda at: -similarity[row, at])  # noqa: B023
        assert found.rows[row].tolist() == best[:5]
        right = [similarity[row, at] for at in best if gallery_ids[at] == query_ids[row]]
        wrong = [similarity[row, at] for at in best if gallery_ids[at] != query_ids[row]]
        np.testing.assert_allclose(found.right[row], right[0] if right else np.nan, atol=1e-6)
        np.testing.assert_allclose(found.wrong[row], wrong[0], atol=1e-6)


def test_the_most_wrong_come_first_and_strangers_last(data):
    query, query_ids, gallery, gallery_ids, files, theirs = data
    found = neighbours.search(query, query_ids, gallery, gallery_ids, files, theirs, 1)
    order = neighbours.most_wrong(found)
    strangers = query_ids[order] == "f"
    assert strangers.sum() > 0 and strangers[-strangers.sum() :].all()
    ahead = (found.wrong - found.right)[order][~strangers]
    assert (np.diff(ahead) <= 0).all()


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_confusions_are_counted_and_their_mean_is_that_of_all_pairs(data, monkeypatch, cells):
    monkeypatch.setattr(neighbours, "_CELLS", cells)
    query, query_ids, gallery, gallery_ids, files, theirs = data
    found = neighbours.search(query, query_ids, gallery, gallery_ids, files, theirs, 1)
    told = neighbours.confusions(found, query, query_ids, gallery, gallery_ids, most=100)
    assert len(told) == 6 * 6 - 5 and [one.taken for one in told] == sorted((one.taken for one in told), reverse=True)
    similarity, first = cosines(query, gallery), gallery_ids[found.rows[:, 0]]
    for one in told:
        asked = query_ids == one.identity
        assert one.queries == asked.sum() and one.taken == (first[asked] == one.other).sum()
        mean = similarity[asked][:, gallery_ids == one.other].mean()
        assert one.similarity == pytest.approx(mean, abs=1e-6)


def test_a_query_that_has_nothing_but_its_own_file_finds_nothing():
    found = neighbours.search([[1.0]], ["a"], [[1.0]], ["a"], ["x"], ["x"], 3)
    assert np.isnan([found.similarity[0, 0], found.right[0], found.wrong[0]]).all()
    assert neighbours.confusions(found, np.ones((1, 1)), ["a"], np.ones((1, 1)), ["a"]) == []

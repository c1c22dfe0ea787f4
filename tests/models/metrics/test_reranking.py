"""Re-ranking and query expansion against the papers' formulas, written again with loops in float64."""

import numpy as np
import pytest

from longtail.models.metrics import reranking
from longtail.models.metrics import retrieval


def unit(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def people(seed, images, identities=8, dimension=6):
    random = np.random.default_rng(seed)
    names = random.integers(0, identities, images)
    return unit(random.normal(size=(identities, dimension))[names] + random.normal(size=(images, dimension))), names


def zhong(images, k1, k2, weight):
    """Distances [N, N] after re-ranking by Zhong et al., Eq. 2 to 12: sets and loops, nothing sparse."""
    total = len(images)
    distance = ((images[:, None] - images[None]) ** 2).sum(axis=2)
    distance /= distance.max(axis=1, keepdims=True)
    order = np.argsort(distance, axis=1, kind="stable")

    def reciprocal(one, k):
        return {int(other) for other in order[one, : k + 1] if one in order[other, : k + 1]}

    encoded = np.zeros((total, total))
    for one in range(total):
        own = reciprocal(one, k1)
        expanded = set(own)
        for other in own:
            theirs = reciprocal(other, int(np.around(k1 / 2)))
            if len(theirs & own) > 2 / 3 * len(theirs):
                expanded |= theirs
        for other in expanded:
            encoded[one, other] = np.exp(-distance[one, other])
    encoded /= encoded.sum(axis=1, keepdims=True)
    encoded = np.stack([encoded[order[one, :k2]].mean(axis=0) for one in range(total)])
    least = np.minimum(encoded[:, None], encoded[None]).sum(axis=2)
    most = np.maximum(encoded[:, None], encoded[None]).sum(axis=2)
    return (1 - weight) * (1 - least / most) + weight * distance


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 1, 0.0), (3, 3, 0.7), (99, 99, 0.3)])
def test_reranked_distances_are_the_papers(k1, k2, weight):
    images, _ = people(seed=k1, images=60)
    query, gallery = images[:20].astype(np.float32), images[20:].astype(np.float32)
    expected = zhong(images, k1, k2, weight)[:20, 20:]
    found = dict(reranking.KReciprocal(k1, k2, weight)(query, gallery, False))
    np.testing.assert_allclose(-np.stack([found[row] for row in range(20)]), expected, atol=2e-6)


def test_where_queries_are_the_gallery_each_image_is_a_neighbour_once():
    images, _ = people(seed=1, images=60)
    as_given = images.astype(np.float32)
    found = dict(reranking.KReciprocal(8, 3, 0.3)(as_given, as_given, True))
    expected = zhong(images, 8, 3, 0.3)
    np.testing.assert_allclose(-np.stack([found[row] for row in range(60)]), expected, atol=2e-6)


def test_chunks_change_nothing(monkeypatch):
    images, names = people(seed=2, images=80)
    asked = (images[:30], names[:30], images[30:], names[30:])
    whole = retrieval.score_queries(*asked, ranking=reranking.KReciprocal())
    monkeypatch.setattr(reranking, "_CHUNK_CELLS", 250)
    parts = retrieval.score_queries(*asked, ranking=reranking.KReciprocal())
    np.testing.assert_allclose(parts.average_precision, whole.average_precision)


def test_embeddings_that_are_all_one_have_finite_distances():
    near = (1 + np.random.default_rng(0).normal(scale=1e-7, size=(60, 3))).astype(np.float32)
    for _, distances in reranking.KReciprocal()(*[retrieval.unit("near", near, near)] * 2, True):
        assert np.isfinite(distances).all()


def test_reranking_finds_more_of_clustered_people():
    images, names = people(seed=3, images=200)
    plain = retrieval.evaluate_retrieval(images, names, images, names, exclude_self=True)["mAP"]
    scores = retrieval.score_queries(
        images, names, images, names, exclude_self=True, ranking=reranking.KReciprocal()
    )
    assert scores.average_precision.mean() > plain + 0.01


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_expanded_queries_are_the_weighted_mean_of_themselves_and_their_nearest(alpha):
    images, _ = people(seed=4, images=50)
    query, gallery = images[:10], images[10:]
    expected = []
    for one in query:
        similar = sorted(((float(one @ other), tuple(other)) for other in gallery), reverse=True)[:4]
        expected.append(one + sum(max(near, 0.0) ** alpha * np.array(other) for near, other in similar))
    np.testing.assert_allclose(reranking.expand(query, gallery, 4, alpha), unit(expected), atol=1e-6)


def test_an_image_of_the_gallery_is_not_added_to_itself():
    images = unit([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    expanded = reranking.expand(images, images, 1, alpha=0.0, exclude_self=True)
    np.testing.assert_allclose(expanded[1], unit([images[1] + images[2]])[0], atol=1e-6)


def test_more_neighbours_than_the_gallery_has_are_all_of_it():
    images = unit([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(reranking.expand(images[:1], images[1:], 9, 0.0), unit([[1.0, 1.0]]), atol=1e-6)
    np.testing.assert_allclose(reranking.expand(images[:1], images[:1], 9, exclude_self=True), images[:1])


@pytest.mark.parametrize("wrong", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}])
def test_what_cannot_be_reranked_with_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1, `weight` in"):
        reranking.KReciprocal(**wrong)


def test_without_queries_nothing_is_ranked_with_or_without_reranking():
    images, names = people(seed=5, images=4)
    for ranking in (None, reranking.KReciprocal()):
        assert not len(retrieval.score_queries(images[:0], names[:0], images, names, ranking=ranking).matches)
        nobody = retrieval.score_queries(np.zeros((0, 6)), names[:0], np.zeros((0, 6)), names[:0], ranking=ranking)
        assert not len(nobody.matches)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_what_is_kept_apart_from_a_query_is_not_added_to_it(alpha):
    query, gallery = unit([[1.0, 0.1], [0.1, 1.0]]), unit([[1.0, 0.1], [1.0, 1.0]])
    apart = [(np.array([7, 8]), np.array([7, 9]))]
    expanded = reranking.expand(query, gallery, 2, alpha, apart=apart)
    np.testing.assert_allclose(expanded[:1], reranking.expand(query[:1], gallery[1:], 2, alpha), atol=1e-6)
    np.testing.assert_allclose(expanded[1:], reranking.expand(query[1:], gallery, 2, alpha), atol=1e-6)

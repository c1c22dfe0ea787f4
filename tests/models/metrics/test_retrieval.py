"""Retrieval metrics: values worked out by hand, and an independent naive ranking."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from longtail.models import errors
from longtail.models.metrics import metric
from longtail.models.metrics import retrieval


def _on_circle(*degrees):
    """Unit vectors; a query at 0 degrees ranks them by their angle."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_a_query_with_right_answers_at_ranks_1_and_4_has_ap_three_quarters():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0), ["a"], _on_circle(10, 20, 30, 40, 50), ["a", "b", "c", "a", "b"]
    )
    assert scores["mAP"] == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert scores["rank1"] == 1.0
    assert scores["mINP"] == pytest.approx(2 / 4)


def test_rank_k_counts_queries_whose_first_right_answer_is_among_k():
    gallery, ids = _on_circle(*range(10, 130, 10)), list("abcdefghijkl")
    scores = retrieval.evaluate_retrieval(_on_circle(*[0] * 12), ids, gallery, ids)
    within = [scores[f"rank{k}"] for k in (1, 5, 10)]
    assert within == pytest.approx([1 / 12, 5 / 12, 10 / 12])


def test_embeddings_are_compared_by_direction_not_by_length():
    near_but_short, far_but_long = _on_circle(10) * 0.01, _on_circle(80) * 100
    scores = retrieval.evaluate_retrieval(
        _on_circle(0) * 7, ["a"], np.concatenate([far_but_long, near_but_short]), ["b", "a"]
    )
    assert scores["rank1"] == 1.0


def test_a_query_without_a_match_is_counted_but_not_averaged():
    scores = retrieval.evaluate_retrieval(_on_circle(0, 0), ["a", "z"], _on_circle(10), ["a"])
    assert (scores["queries"], scores["unmatched"], scores["mAP"]) == (1, 1, 1.0)


def test_no_query_with_a_match_is_an_error_that_says_so():
    with pytest.raises(errors.WorkError, match="none of 2 queries has a match among 1 gallery"):
        retrieval.evaluate_retrieval(_on_circle(0, 5), ["y", "z"], _on_circle(10), ["a"])


def test_each_query_is_left_out_of_its_own_gallery():
    images, ids = _on_circle(0, 50, 10), ["a", "a", "b"]
    scores = retrieval.score_queries(images, ids, images, ids, exclude_self=True)
    np.testing.assert_array_equal(scores.first, [2, 2, 0])
    np.testing.assert_array_equal(scores.matches, [1, 1, 0])


def test_images_of_the_querys_identity_by_its_own_camera_are_neither_right_nor_wrong():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0),
        ["a"],
        _on_circle(5, 10, 20, 30),
        ["a", "b", "a", "b"],
        query_cameras=[1],
        gallery_cameras=[1, 1, 2, 2],
    )
    # What remains is b, a, b: the query's camera hides only images of its own identity.
    assert scores["mAP"] == pytest.approx(1 / 2)


def test_an_identity_seen_by_one_camera_only_has_no_match_across_cameras():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0, 0),
        ["a", "b"],
        _on_circle(5, 10),
        ["a", "b"],
        query_cameras=[1, 1],
        gallery_cameras=[1, 2],
    )
    assert (scores["queries"], scores["unmatched"]) == (1, 1)


def test_a_tie_is_lost():
    for ids in (["a", "b"], ["b", "a"]):
        scores = retrieval.evaluate_retrieval(_on_circle(0), ["a"], _on_circle(10, 10), ids)
        assert scores["mAP"] == 0.5


def test_a_collapsed_model_scores_worst_despite_rounding_noise():
    noise = np.random.default_rng(0).normal(scale=1e-8, size=(40, 16))
    images = (np.ones((40, 16)) + noise).astype(np.float32)
    ids = np.repeat(np.arange(20), 2)
    scores = retrieval.evaluate_retrieval(images, ids, images, ids, exclude_self=True)
    assert scores["mAP"] == pytest.approx(1 / 39)


def test_slices_average_their_own_queries_against_the_whole_gallery():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0, 0),
        ["a", "b"],
        _on_circle(10, 20),
        ["a", "b"],
        slices={"head": np.array([True, False]), "tail": np.array([False, True])},
    )
    assert scores["slices"]["head"]["mAP"] == 1.0
    assert scores["slices"]["tail"]["mAP"] == 0.5
    assert scores["slices"]["tail"]["identities"] == 1


def test_an_empty_slice_has_no_figures():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0), ["a"], _on_circle(10), ["a"], slices={"head": [False]}
    )
    assert scores["slices"]["head"] == {
        **dict.fromkeys(each.name for each in metric.METRICS),
        **dict.fromkeys(("queries", "identities", "unmatched"), 0),
    }


def test_precision_is_averaged_within_each_identity():
    scores = retrieval.score_queries(
        _on_circle(0, 90, 0), ["a", "a", "z"], _on_circle(10, 80), ["a", "b"]
    )
    np.testing.assert_allclose(
        retrieval.identity_precision(scores), [(1 + 1 / 2) / 2, np.nan, np.nan]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": np.ones((2, 3))}, "same dimension. Received: 2 and 3"),
        (
            {"query_ids": ["a", "b"]},
            r"`query` must be .* Received: shape \(1, 2\) and 2 identities",
        ),
        ({"gallery": np.full((2, 2), np.nan)}, "`gallery` must be finite. Received: 2 rows"),
        ({"query_cameras": [1]}, "given together"),
        (
            {"query_cameras": [1], "gallery_cameras": [1]},
            "`gallery_cameras` must have .* Received: 1",
        ),
        ({"exclude_self": True}, "Received: 1 queries and 2 gallery images"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, message):
    arguments = {
        "query": _on_circle(0),
        "query_ids": ["a"],
        "gallery": _on_circle(10, 20),
        "gallery_ids": ["a", "b"],
    }
    with pytest.raises(ValueError, match=message):
        retrieval.score_queries(**{**arguments, **change})


def _naive(query, query_ids, gallery, gallery_ids, query_cameras, gallery_cameras):
    """The definition, one query at a time: sort what is not junk, right answers last in a tie."""
    results = []
    for vector, identity, camera in zip(query, query_ids, query_cameras, strict=True):
        ranking = sorted(
            (-round(float(vector @ other), 5), other_id == identity)
            for other, other_id, other_camera in zip(
                gallery, gallery_ids, gallery_cameras, strict=True
            )
            if not (other_id == identity and other_camera == camera)
        )
        hits = [position for position, (_, right) in enumerate(ranking, start=1) if right]
        if hits:
            precision = sum(k / rank for k, rank in enumerate(hits, start=1)) / len(hits)
            within = [k / rank for k, rank in enumerate(hits, start=1) if rank <= len(hits)]
            at_r = len(within) / len(hits), sum(within) / len(hits)
            results.append((hits[0], precision, len(hits) / hits[-1], *at_r))
        else:
            results.append((0, None, None, None, None))
    return results


@strategies.composite
def _image(draw):
    # Few directions and identities, so that ties, junk and missing matches are common.
    return (
        draw(strategies.sampled_from(range(0, 360, 30))),
        draw(strategies.integers(0, 3)),
        draw(strategies.integers(0, 2)),
    )


@hypothesis.given(
    query=strategies.lists(_image(), min_size=1, max_size=6),
    gallery=strategies.lists(_image(), min_size=1, max_size=12),
)
@hypothesis.settings(max_examples=200, deadline=None)
def test_every_query_scores_as_in_a_naive_ranking(query, gallery):
    query_degrees, query_ids, query_cameras = zip(*query, strict=True)
    gallery_degrees, gallery_ids, gallery_cameras = zip(*gallery, strict=True)
    queries, images = _on_circle(*query_degrees), _on_circle(*gallery_degrees)
    scores = retrieval.score_queries(
        queries,
        query_ids,
        images,
        gallery_ids,
        query_cameras=query_cameras,
        gallery_cameras=gallery_cameras,
    )
    expected = _naive(queries, query_ids, images, gallery_ids, query_cameras, gallery_cameras)
    np.testing.assert_array_equal(scores.first, [first for first, *_ in expected])
    averages = (scores.average_precision, scores.inverse_penalty, scores.r_precision, scores.precision_at_r)
    for position, found in enumerate(averages, start=1):
        wanted = np.array([row[position] for row in expected], np.float64)
        np.testing.assert_allclose(found, wanted)


def test_scores_do_not_depend_on_the_size_of_a_chunk(monkeypatch):
    random = np.random.default_rng(1)
    images, ids = random.normal(size=(50, 8)), random.integers(0, 9, size=50)
    whole = retrieval.score_queries(images, ids, images, ids, exclude_self=True)
    monkeypatch.setattr(retrieval, "_CHUNK_CELLS", 150)
    chunked = retrieval.score_queries(images, ids, images, ids, exclude_self=True)
    np.testing.assert_array_equal(chunked.average_precision, whole.average_precision)


def test_a_copy_of_the_query_is_neither_a_right_answer_nor_a_rival():
    gallery, ids, files = _on_circle(0, 20, 30), ["a", "b", "a"], ["x", "y", "z"]
    with_copy = retrieval.evaluate_retrieval(
        _on_circle(0), ["a"], gallery, ids, query_files=["x"], gallery_files=files
    )
    assert with_copy["rank1"] == 0.0 and with_copy["mAP"] == pytest.approx(1 / 2)


def test_the_same_file_under_another_identity_stays_a_rival():
    scores = retrieval.evaluate_retrieval(
        _on_circle(0), ["a"], _on_circle(0, 10), ["b", "a"], query_files=["x"], gallery_files=["x", "y"]
    )
    assert scores["rank1"] == 0.0


def test_files_and_cameras_are_both_left_out():
    with pytest.raises(errors.WorkError, match="none of 1 queries has a match"):
        retrieval.evaluate_retrieval(
            _on_circle(0),
            ["a"],
            _on_circle(0, 10),
            ["a", "a"],
            query_cameras=[1],
            gallery_cameras=[2, 1],
            query_files=["x"],
            gallery_files=["x", "y"],
        )


def test_of_nothing_nothing_is_distinct():
    assert retrieval.distinct([], []).tolist() == []

"""The one list of figures: means over the queries that are scored, and what tables make of them."""

import numpy as np
import pytest

from longtail.models.metrics import metric

# Four queries: right at once, right third, without a match, right at once.
SCORES = metric.QueryScores(
    identity=np.array([0, 0, 1, 2]),
    matches=np.array([1, 2, 0, 1]),
    first=np.array([1, 3, 0, 1]),
    average_precision=np.array([1.0, 0.25, np.nan, 1.0]),
    inverse_penalty=np.array([1.0, 0.5, np.nan, 1.0]),
    r_precision=np.array([1.0, 0.0, np.nan, 1.0]),
    precision_at_r=np.array([1.0, 0.0, np.nan, 1.0]),
)


def test_every_metric_is_a_mean_over_the_queries_with_a_match():
    found = metric.summarise(SCORES)
    assert (found["mAP"], found["rank1"], found["rank5"], found["mINP"]) == pytest.approx((0.75, 2 / 3, 1.0, 5 / 6))
    assert (found["queries"], found["identities"], found["unmatched"]) == (3, 2, 1)


def test_a_mask_takes_its_queries_alone():
    found = metric.summarise(SCORES, [False, True, True, False])
    assert (found["mAP"], found["queries"], found["unmatched"]) == (0.25, 1, 1)


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"one entry a query, 4. Received: shape \(2,\)"):
        metric.summarise(SCORES, [True, False])


def test_figures_have_the_lists_order_and_names_of_their_own():
    names = [each.name for each in metric.METRICS]
    assert list(metric.summarise(SCORES))[: len(names)] == names and len(set(names)) == len(names)


def test_a_share_is_shown_in_per_cent_and_another_unit_as_it_is():
    share = metric.Metric("share", "Share", lambda scores: scores.first)
    rank = metric.Metric("rank", "Mean rank", lambda scores: scores.first, unit="", format=".1f")
    assert (share.title, share.show(0.1234), share.show(0.1234, "+"), share.show(None)) == (
        "Share, %", "12.34", "+12.34", "-"
    )  # fmt: skip
    assert (rank.title, rank.show(2.25)) == ("Mean rank", "2.2")


def test_a_line_has_every_metric_with_its_unit():
    line = metric.line(metric.summarise(SCORES))
    retrieval = "mAP 75.00 %, Rank-1 66.67 %, Rank-5 100.00 %, Rank-10 100.00 %, mINP 83.33 %"
    assert line == f"{retrieval}, R-Prec 66.67 %, MAP@R 66.67 %"

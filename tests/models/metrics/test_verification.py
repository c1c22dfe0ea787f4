"""Verification against the definitions, written out pair by pair."""

import itertools

import numpy as np
import pytest
from scipy import stats

from longtail.models import errors
from longtail.models.metrics import comparisons
from longtail.models.metrics import intervals
from longtail.models.metrics import verification


@pytest.fixture(scope="module")
def people():
    """Sixty images of twelve identities, which overlap: (embedding, identity)."""
    random = np.random.default_rng(0)
    identity = np.arange(60) % 12
    return random.normal(size=(12, 6))[identity] + random.normal(scale=1.2, size=(60, 6)), identity


@pytest.fixture(scope="module")
def scores(people):
    """Similarities of the same and of the different pairs, one pair at a time in float64."""
    embedding, identity = people
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    found = {True: [], False: []}
    for one, other in itertools.combinations(range(len(unit)), 2):
        found[bool(identity[one] == identity[other])].append(float(unit[one] @ unit[other]))
    return np.array(found[True]), np.array(found[False])


def _brute_rates(scores, threshold):
    same, different = scores
    return float((different >= threshold).mean()), float((same >= threshold).mean())


@pytest.mark.parametrize("rate", [0.5, 0.1, 0.02])
def test_tpr_at_fpr_is_the_best_of_all_thresholds_that_keep_it(people, scores, rate):
    same, different = scores
    thresholds = np.concatenate([same, different])
    kept = [tpr for fpr, tpr in (_brute_rates(scores, bar) for bar in thresholds) if fpr <= rate]
    threshold, tpr = verification.measure(comparisons.AllPairs(*people)).at(rate)
    assert tpr == max(kept)
    assert _brute_rates(scores, threshold)[0] <= rate and _brute_rates(scores, threshold)[1] == tpr


def test_auc_is_the_mann_whitney_statistic(people, scores):
    same, different = scores
    statistic = stats.mannwhitneyu(same, different).statistic / len(same) / len(different)
    assert verification.measure(comparisons.AllPairs(*people)).auc() == pytest.approx(statistic, abs=1e-5)


def test_at_the_equal_error_rate_as_many_are_accepted_as_refused(people, scores):
    rate, threshold = verification.measure(comparisons.AllPairs(*people)).equal_error()
    gaps = [(abs(fpr - (1 - tpr)), (fpr + 1 - tpr) / 2) for fpr, tpr in (_brute_rates(scores, t) for t in scores[1])]
    assert rate == pytest.approx(min(gaps)[1], abs=0.01)
    fpr, tpr = _brute_rates(scores, threshold)
    assert fpr == pytest.approx(1 - tpr, abs=0.02)


def test_equal_similarities_are_accepted_together():
    curve = verification.curve_of(np.full(3, 0.5), np.full(4, 0.5))
    assert curve.at(0.9) == (pytest.approx(0.5, abs=2e-6), 0.0)
    assert (curve.at(1.0)[1], curve.auc(), curve.equal_error()[0]) == (1.0, 0.5, 0.5)


def test_the_curve_does_not_depend_on_the_size_of_a_chunk(people, monkeypatch):
    whole = verification.measure(comparisons.AllPairs(*people))
    monkeypatch.setattr(comparisons, "_CHUNK_CELLS", 77)
    chunked = verification.measure(comparisons.AllPairs(*people))
    np.testing.assert_array_equal(chunked.false[-1], whole.false[-1])
    assert chunked.auc() == pytest.approx(whole.auc(), abs=1e-6)


def test_all_pairs_are_each_pair_once(people, monkeypatch):
    monkeypatch.setattr(comparisons, "_CHUNK_CELLS", 200)
    chunks = list(comparisons.AllPairs(*people))
    assert sum(chunk.similarity.size for chunk in chunks) == 60 * 59 // 2
    assert sum(np.broadcast_to(chunk.same, chunk.similarity.shape).sum() for chunk in chunks) == 12 * 10


def test_listed_pairs_score_as_all_pairs_that_are_listed(people):
    embedding, identity = people
    one, other = np.triu_indices(60, 1)
    listed = comparisons.Listed(embedding[one], embedding[other], identity[one], identity[other])
    expected = verification.evaluate(comparisons.AllPairs(*people), draws=0)
    assert verification.evaluate(listed, draws=0) == expected


def test_a_rate_that_the_pairs_cannot_support_has_no_figures(people):
    found = verification.evaluate(comparisons.AllPairs(*people), rates=(0.1, 0.01), draws=5)
    assert found["smallest_fpr"] == 30 / found["different"]
    assert found["points"][0]["tpr_interval"] is not None
    assert set(found["points"][1].values()) == {0.01, None}


def test_the_equal_error_rate_and_the_threshold_lie_in_their_intervals(people):
    found = verification.evaluate(comparisons.AllPairs(*people), rates=(0.1,))
    point = found["points"][0]
    for low, value, high in (
        (found["eer_interval"][0], found["eer"], found["eer_interval"][1]),
        (found["auc_interval"][0], found["auc"], found["auc_interval"][1]),
        (point["threshold_interval"][0], point["threshold"], point["threshold_interval"][1]),
        (point["tpr_interval"][0], point["tpr"], point["tpr_interval"][1]),
    ):
        assert low < value < high


def test_a_bootstrap_draw_is_the_roc_of_the_identities_that_it_took(people):
    """Everyone once is the measured ROC, of which the bootstrap knows the same figures."""
    everything = comparisons.AllPairs(*people)
    curve = verification.measure(everything)
    different, same = verification._samples(everything, curve, seed=0)
    roc = intervals._Roc(intervals._falling(different), intervals._falling(same))
    auc, eer, bar, tpr = roc.figures(np.ones(13), [0.1])
    assert (auc, tpr) == (pytest.approx(curve.auc(), abs=1e-6), pytest.approx(curve.at(0.1)[1]))
    assert (eer, bar) == (pytest.approx(curve.equal_error()[0], abs=0.01), pytest.approx(curve.at(0.1)[0], abs=1e-5))


def test_an_identity_drawn_twice_counts_twice_with_itself_and_four_times_with_another_drawn_twice():
    pair = intervals.Scores(np.array([0.5]), np.array([0]), np.array([1]), np.array([1.0]))
    own = intervals.Scores(np.array([0.9, 0.1]), np.array([0, 2]), np.array([0, 2]), np.ones(2))
    auc = intervals._Roc(pair, own).figures(np.array([2, 2, 1, 1]), [])[0]
    assert auc == pytest.approx(2 / 3)  # of three same pairs, two are above all four different ones


def test_a_sample_of_the_comparisons_gives_the_intervals_of_them_all(people, monkeypatch):
    whole = verification.evaluate(comparisons.AllPairs(*people), rates=(0.1,))
    monkeypatch.setattr(intervals, "MOST_SCORES", 600)
    part = verification.evaluate(comparisons.AllPairs(*people), rates=(0.1,))
    np.testing.assert_allclose(part["auc_interval"], whole["auc_interval"], atol=0.02)
    np.testing.assert_allclose(
        part["points"][0]["threshold_interval"], whole["points"][0]["threshold_interval"], atol=0.03
    )


def test_the_interval_holds_what_new_people_show():
    """95 % intervals of 60 studies of the same population cover its threshold about as often as they say."""
    random = np.random.default_rng(1)

    def study(identities):
        names = np.repeat(np.arange(identities), 4)
        return random.normal(size=(identities, 5))[names] + random.normal(scale=0.8, size=(len(names), 5)), names

    truth = verification.measure(comparisons.AllPairs(*study(1000))).at(0.1)[0]
    covered = 0
    for _ in range(60):
        people = comparisons.AllPairs(*study(30))
        point = verification.evaluate(people, rates=(0.1,), draws=100)["points"][0]
        covered += point["threshold_interval"][0] <= truth <= point["threshold_interval"][1]
    assert covered >= 50


@pytest.mark.parametrize(("identity", "kind"), [([0, 1], "one identity"), ([0, 0], "two identities")])
def test_nothing_to_compare_is_an_error_that_says_so(identity, kind):
    with pytest.raises(errors.WorkError, match=f"no pair of images of {kind}"):
        verification.evaluate(comparisons.AllPairs(np.eye(2), identity))


def test_the_mean_similarity_is_that_of_all_pairs(people, scores):
    assert comparisons.mean_similarity(people[0]) == pytest.approx(np.concatenate(scores).mean(), abs=1e-5)

"""Thresholds for false match rates, counted pair by pair."""

import itertools

import numpy as np
import pytest

from longtail.models.metrics import calibration


@pytest.fixture(scope="module")
def people():
    """Images of forty people, six each: (embedding, identity, digest)."""
    random = np.random.default_rng(0)
    identity = np.arange(240) % 40
    embedding = random.normal(size=(40, 8))[identity] + random.normal(scale=0.7, size=(240, 8))
    return embedding, identity, np.arange(240).astype(str)


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_a_threshold_lets_as_many_different_pairs_pass_as_its_rate_says(people, rate):
    embedding, identity, _ = people
    [found] = calibration.calibrate(*people, rates=[rate])["thresholds"]
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    passed = {True: [], False: []}
    for one, other in itertools.combinations(range(240), 2):
        passed[identity[one] == identity[other]].append(unit[one] @ unit[other] >= found["threshold"])
    assert np.mean(passed[False]) == pytest.approx(rate, abs=1 / len(passed[False]))
    assert 1 - np.mean(passed[True]) == pytest.approx(found["fnmr"])
    assert found["interval"][0] < found["threshold"] < found["interval"][1]
    assert found["fnmr_interval"][0] < found["fnmr"] < found["fnmr_interval"][1]


def test_a_rate_that_the_pairs_do_not_support_is_left_out(people):
    found = calibration.calibrate(*people)
    assert [one["fmr"] for one in found["thresholds"]] == [0.1, 0.01]
    assert found["smallest_fmr"] == pytest.approx(30 / found["different"])


def test_the_same_file_of_an_identity_counts_once(people):
    embedding, identity, digest = people
    twice = calibration.calibrate(*(np.concatenate([each, each[:50]]) for each in (embedding, identity, digest)))
    assert twice == calibration.calibrate(*people)

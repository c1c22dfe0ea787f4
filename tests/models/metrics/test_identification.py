"""Open-set identification and distractors, against definitions written out probe by probe."""

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.metrics import identification


@pytest.fixture(scope="module")
def crowd():
    """Gallery of ten people, probes of them and of thirty strangers: (gallery, its ids, probes, their ids)."""
    random = np.random.default_rng(0)
    people = random.normal(size=(40, 5))
    gallery_ids, probe_ids = np.arange(20) % 10, np.arange(120) % 40
    gallery = people[gallery_ids] + random.normal(scale=0.7, size=(20, 5))
    return gallery, gallery_ids, people[probe_ids] + random.normal(scale=0.7, size=(120, 5)), probe_ids


def _brute(crowd, threshold):
    """(FAR, DIR) at a threshold, a probe at a time."""
    gallery, gallery_ids, probes, probe_ids = crowd
    alarms, found = [], []
    for probe, name in zip(probes, probe_ids, strict=True):
        cosine = gallery @ probe / np.linalg.norm(gallery, axis=1) / np.linalg.norm(probe)
        best = int(np.argmax(cosine))
        if name in gallery_ids:
            found.append(cosine[best] >= threshold and gallery_ids[best] == name)
        else:
            alarms.append(cosine[best] >= threshold)
    return np.mean(alarms), np.mean(found)


def test_dir_and_far_are_those_of_the_threshold_that_is_told(crowd):
    point = identification.open_set(*crowd, rates=[0.5], draws=0)["points"][0]
    alarms, found = _brute(crowd, point["threshold"])
    assert (alarms <= 0.5, point["dir"]) == (True, pytest.approx(found))


def test_no_lower_threshold_keeps_the_rate(crowd):
    point = identification.open_set(*crowd, rates=[0.5], draws=0)["points"][0]
    assert _brute(crowd, point["threshold"] - 2e-6)[0] > 0.5


def test_rank_1_is_the_share_found_whatever_the_threshold(crowd):
    found = identification.open_set(*crowd, draws=0)
    assert (found["rank1"], found["probes"], found["impostors"]) == (pytest.approx(_brute(crowd, -1)[1]), 30, 90)


def test_open_set_does_not_depend_on_the_size_of_a_chunk(crowd, monkeypatch):
    whole = identification.open_set(*crowd, rates=[0.5])
    monkeypatch.setattr(identification, "_CHUNK_CELLS", 50)
    assert identification.open_set(*crowd, rates=[0.5]) == whole


def test_the_interval_of_dir_holds_it(crowd):
    point = identification.open_set(*crowd, rates=[0.5])["points"][0]
    assert point["dir_interval"][0] <= point["dir"] <= point["dir_interval"][1]
    assert point["dir_interval"][0] < point["dir_interval"][1]


@pytest.mark.parametrize(("ids", "missing"), [([7, 8], "somebody in the gallery"), ([0, 1], "a stranger")])
def test_one_kind_of_probe_is_not_enough(ids, missing):
    with pytest.raises(errors.WorkError, match=f"none of 2 probes is of {missing}"):
        identification.open_set(np.eye(2), [0, 1], np.eye(2), ids)


def test_at_a_threshold_chosen_before_both_rates_are_counted():
    probes, names = [[1.0, 0.0], [0.6, 0.8], [0.8, 0.6], [0.0, -1.0]], ["a", "a", "stranger", "stranger"]
    found = identification.open_set([[1.0, 0.0]], ["a"], probes, names, draws=0, thresholds=[0.5, 0.7, 0.9])
    assert [(at["dir"], at["far"]) for at in found["at"]] == [(1.0, 0.5), (0.5, 0.5), (0.5, 0.0)]


def test_rank_1_among_distractors_is_that_of_all_of_them_at_once():
    random = np.random.default_rng(2)
    ids = np.arange(30) // 3
    probes = random.normal(size=(10, 4))[ids] + random.normal(scale=0.3, size=(30, 4))
    crowd = random.normal(size=(500, 4))
    found = identification.among_distractors(probes, ids, np.array_split(crowd, 7), [10, 100, 450])
    unit, others = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (probes, crowd))
    for row in found:
        nearest = (unit @ others[: row["distractors"]].T).max(axis=1)
        pairs = [
            unit[one] @ unit[other] > nearest[one]
            for one in range(30) for other in range(30) if one != other and ids[one] == ids[other]
        ]  # fmt: skip
        assert (row["rank1"], row["pairs"]) == (pytest.approx(np.mean(pairs)), len(pairs))


def test_without_sizes_the_crowd_grows_by_tens_to_all_there_are():
    crowd = np.random.default_rng(0).normal(size=(120, 2))
    found = identification.among_distractors(np.ones((2, 2)), [0, 0], np.array_split(crowd, 3))
    assert [row["distractors"] for row in found] == [10, 100, 120]
    found = identification.among_distractors(np.ones((2, 2)), [0, 0], [crowd[:100]])
    assert [row["distractors"] for row in found] == [10, 100]


def test_too_few_distractors_are_an_error_that_says_how_many_there_are():
    with pytest.raises(errors.WorkError, match="2 distractors, but 10 are asked for"):
        identification.among_distractors(np.ones((2, 2)), [0, 0], [np.eye(2)], [1, 10])


def test_distractors_are_read_from_files_block_by_block(tmp_path):
    array = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.save(tmp_path / "a.npy", array)
    blocks = list(identification.blocks([str(tmp_path / "a.npy")], rows=3))
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), array)


def test_a_file_that_is_no_array_is_bad_usage(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(errors.UsageError, match="a.npy: cannot be read as a NumPy array"):
        list(identification.blocks([str(tmp_path / "a.npy")]))


def test_distractors_that_could_not_be_embedded_do_not_count():
    crowd = [np.array([[0.0, 0.0], [0.0, 1.0]]), np.zeros((3, 2))]
    [row] = identification.among_distractors([[1.0, 0.0], [1.0, 0.1]], [0, 0], crowd)
    assert (row["distractors"], row["rank1"]) == (1, 1.0)

"""Lists of pairs, LFW's accuracy over folds, and templates."""

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.metrics import pair_lists
from longtail.models.metrics import templates


def test_lfws_list_has_its_folds_in_order():
    text = "2\t1\nA\t1\t2\nA\t1\tB\t3\nC\t1\t2\nB\t1\tC\t10\n"
    pairs = pair_lists.parse(text, "pairs.txt")
    assert [pair.fold for pair in pairs] == [0, 0, 1, 1]
    assert (pairs[3].left, pairs[3].right, pairs[3].same) == ("B/B_0001", "C/C_0010", False)


def test_lfws_list_without_folds_has_none():
    assert pair_lists.parse("1\nA\t1\t2\nA\t1\tB\t3", "pairs.txt")[1].fold is None


def test_a_csv_names_its_columns_in_any_order():
    pair = pair_lists.parse("same,right,left\n0,b.png,a.png\n", "pairs.csv")[0]
    assert pair == pair_lists.Pair("a.png", "b.png", False, None, 2)


def test_a_csv_may_leave_out_whether_they_are_the_same():
    assert pair_lists.parse("a.png,b.png", "pairs.csv")[0].same is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs; each line names two images"),
        ("1\t1\nA\t1\n", "line 2: .* is neither 'name n m' nor"),
        ("a.png,b.png,1\nc.png\n", r"line 2: 'c.png' is no left,right\[,same"),
        ("a.png,b.png,perhaps", "line 1: .* is no left,right"),
    ],
)
def test_a_line_that_is_no_pair_is_named(text, message):
    with pytest.raises(errors.UsageError, match=f"pairs.csv.*{message}"):
        pair_lists.parse(text, "pairs.csv")


def test_accuracy_over_folds_is_that_of_every_threshold_tried():
    random = np.random.default_rng(0)
    same, folds = random.random(200) < 0.5, np.arange(200) % 10
    similarity = same * 0.5 + random.normal(scale=0.4, size=200)
    right = []
    for fold in range(10):
        others = folds != fold
        tried = np.concatenate([[-9.0], np.sort(similarity[others]) + 1e-12])
        judged = [np.mean((similarity[others] >= bar) == same[others]) for bar in tried]
        least, following = tried[np.argmax(judged)], np.sort(similarity[others])
        upper = following[following > least][0]
        bar = (least + upper) / 2
        right.append(np.mean((similarity[~others] >= bar) == same[~others]))
    found = pair_lists.fold_accuracy(similarity, same, folds)
    assert found["accuracy"] == pytest.approx(np.mean(right), abs=1e-9)
    assert found["accuracy_error"] == pytest.approx(np.std(right, ddof=1) / np.sqrt(10))


def test_equal_similarities_are_never_divided_by_a_threshold():
    found = pair_lists.fold_accuracy(np.full(8, 0.5), [1, 0] * 4, [0, 0, 0, 0, 1, 1, 1, 1])
    assert found["accuracy"] == 0.5


def test_a_video_counts_as_one_photograph_in_a_template():
    random = np.random.default_rng(0)
    images = random.normal(size=(6, 3))
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    names, pooled = templates.pool(images, ["t", "t", "t", "u", "t", "u"], [1, 1, 2, 1, 1, 5])
    expected = unit[[0, 1, 4]].mean(axis=0) + unit[2], unit[3] + unit[5]
    assert names.tolist() == ["t", "u"]
    np.testing.assert_allclose(pooled, [vector / np.linalg.norm(vector) for vector in expected], atol=1e-6)

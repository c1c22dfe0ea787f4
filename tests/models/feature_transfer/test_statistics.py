"""Centres, directions and the hard list, against NumPy written from the paper."""

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.feature_transfer import statistics

CLASSES = 6


def drawn(seed=0, images=200, length=12):
    """Rich features of classes apart from one another, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, images)
    spread = rng.normal(size=(length, length)) * np.geomspace(3.0, 0.01, length)
    rich = 5.0 * rng.normal(size=(CLASSES, length))[labels] + rng.normal(size=(images, length)) @ spread.T
    return rich.astype(np.float32), labels


def test_a_centre_is_the_mean_of_originals_and_mirror_images():
    (rich, labels), mirrored = drawn(), drawn(seed=1)[0]
    found = statistics.centres(rich, labels, CLASSES, mirrored)
    for label in range(CLASSES):
        both = np.concatenate([rich[labels == label], mirrored[labels == label]]).astype(np.float64)
        np.testing.assert_allclose(found[label], both.mean(axis=0), atol=1e-5)


def test_faces_turned_away_are_left_out_of_a_centre_but_where_there_are_no_others():
    rich, labels = drawn()
    yaw = np.random.default_rng(2).uniform(-90, 90, len(labels))
    yaw[labels == 3] = -70.0
    found = statistics.centres(rich, labels, CLASSES, yaw=yaw, most_yaw=30.0)
    for label in range(CLASSES):
        kept = (labels == label) & ((np.abs(yaw) <= 30.0) | (label == 3))
        np.testing.assert_allclose(found[label], rich[kept].astype(np.float64).mean(axis=0), atol=1e-5)


def test_a_class_without_images_has_a_centre_of_zeros():
    assert not statistics.centres(np.ones([2, 3]), np.array([0, 0]), 2)[1].any()


def test_the_covariance_is_of_head_classes_around_their_own_centres():
    rich, labels = drawn()
    is_head = np.arange(CLASSES) < 3
    centres = statistics.centres(rich, labels, CLASSES)
    total, images = np.zeros([12, 12]), 0
    for g, y in zip(rich.astype(np.float64), labels, strict=True):
        if y < 3:
            total += np.outer(g - centres[y], g - centres[y])
            images += 1
    np.testing.assert_allclose(statistics.covariance(rich, labels, centres, is_head), total / images, atol=1e-5)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.95, 1.0])
def test_directions_are_the_fewest_that_keep_the_energy(energy):
    rich, labels = drawn()
    centres = statistics.centres(rich, labels, CLASSES)
    found = statistics.directions(statistics.covariance(rich, labels, centres, np.ones(CLASSES, bool)), energy)
    values = np.linalg.svd(rich.astype(np.float64) - centres[labels], compute_uv=False) ** 2
    share = np.cumsum(values) / values.sum()
    rank = found.basis.shape[1]
    assert share[rank - 1] >= energy - 1e-9 and (rank == 1 or share[rank - 2] < energy)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(rank), atol=1e-10)


def test_directions_of_no_variance_at_all_are_one():
    assert statistics.directions(np.zeros([3, 3]), 0.95).basis.shape == (3, 1)


def test_hard_images_lie_further_out_than_their_class_does_on_average():
    rich, labels = drawn()
    centres = statistics.centres(rich, labels, CLASSES)
    apart = np.sqrt(((rich.astype(np.float64) - centres[labels]) ** 2).sum(axis=1))
    wanted = [apart[i] > apart[labels == labels[i]].mean() for i in range(len(labels))]
    assert statistics.far_out(rich, labels, centres).tolist() == wanted


@pytest.mark.parametrize("counts, missing", [([5, 8], "no head class"), ([30, 25], "no tail class")])
def test_without_head_or_without_tail_nothing_can_be_transferred(counts, missing):
    with pytest.raises(errors.UsageError, match=f"^leap.head_threshold: 20 leaves feature transfer {missing}, [^\n]*$"):
        statistics.check_classes(counts, 20)

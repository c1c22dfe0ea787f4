"""Angular spread of classes, on directions whose angles are known."""

import numpy as np
import pytest

from longtail.models.metrics import angular


def _on_circle(*degrees):
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_angles_are_taken_from_the_mean_direction_of_the_class():
    angles = angular.class_angles(_on_circle(-30, 30, 100, 120), ["a", "a", "b", "b"])
    np.testing.assert_allclose(np.degrees(angles["a"]), [30, 30])
    np.testing.assert_allclose(np.degrees(angles["b"]), [10, 10])


def test_the_length_of_a_feature_does_not_pull_the_mean_direction():
    features = _on_circle(-30, 30) * np.array([[1.0], [50.0]])
    np.testing.assert_allclose(np.degrees(angular.class_angles(features, [0, 0])[0]), [30, 30])


def test_variance_is_that_of_the_angles_within_a_class():
    spread = angular.angular_spread(_on_circle(-20, 0, 20), [7, 7, 7], head={7})
    expected = np.var(np.radians([20, 0, 20]))
    assert spread["head"]["variance"] == pytest.approx(expected)
    assert spread["head"]["mean"] == pytest.approx(np.radians(40 / 3))


def test_every_class_counts_once_however_many_images_it_has():
    features = np.concatenate([_on_circle(-10, 10), np.tile(_on_circle(-30, 30), (50, 1))])
    labels = np.array(["few"] * 2 + ["many"] * 100)
    spread = angular.angular_spread(features, labels, head={"few", "many"})
    assert spread["head"]["mean"] == pytest.approx(np.radians(20))


def test_a_class_of_one_image_is_left_out():
    spread = angular.angular_spread(_on_circle(-10, 10, 90), ["a", "a", "b"], head={"a"})
    assert spread["tail"] == {"mean": None, "variance": None, "classes": 0}
    assert spread["head"]["classes"] == 1


def test_small_angles_keep_their_precision_for_float32_features():
    features = _on_circle(-0.001, 0.001).astype(np.float32)
    np.testing.assert_allclose(
        angular.class_angles(features, [0, 0])[0], np.radians([0.001, 0.001]), rtol=1e-2
    )


def test_an_angle_to_the_others_is_not_shrunk_by_the_image_itself():
    found = angular.class_angles(_on_circle(0, 40, 80), [0, 0, 0], leave_one_out=True)
    np.testing.assert_allclose(np.degrees(found[0]), [60, 0, 60], atol=1e-6)


def _equally_wide(few, many, classes=400, dimension=16):
    """Head classes of `many` images and tail classes of `few`, all of the same spread."""
    labels = np.repeat(np.arange(2 * classes), [many] * classes + [few] * classes)
    centres = np.random.default_rng(1).normal(size=(2 * classes, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = np.random.default_rng(2).normal(0.0, 0.03, (len(labels), dimension))
    return centres[labels] + noise, labels, range(classes)


def test_equal_spread_reads_equal_with_four_images_against_twenty_where_the_naive_figure_reads_half():
    data = _equally_wide(4, 20)
    naive, equal = angular.angular_spread(*data), angular.equal_spread(*data, images=4)
    assert naive["tail"]["variance"] / naive["head"]["variance"] < 0.65
    assert equal["tail"]["variance"] / equal["head"]["variance"] == pytest.approx(1.0, abs=0.08)


def test_equal_spread_still_tells_a_tail_that_is_half_as_wide():
    features, labels, head = _equally_wide(4, 20)
    centres = np.stack([features[labels == label].mean(axis=0) for label in range(800)])[labels]
    narrow = np.where(labels[:, None] < 400, features, centres + (features - centres) * np.sqrt(0.5))
    found = angular.equal_spread(narrow, labels, head, images=4)
    assert found["tail"]["variance"] / found["head"]["variance"] == pytest.approx(0.5, abs=0.08)


def test_equal_spread_leaves_out_classes_of_too_few_images_and_every_class_below_three():
    features, labels = _on_circle(0, 1, 3, 6, 90, 91), ["a"] * 4 + ["b"] * 2
    found = angular.equal_spread(features, labels, head=["a"], images=3)
    assert (found["head"]["classes"], found["tail"]["classes"]) == (1, 0)
    assert angular.equal_spread(features, labels, head=["a"], images=2)["head"]["variance"] is None


def test_labels_must_be_one_a_feature():
    with pytest.raises(ValueError, match=r"Received: shapes \(2, 2\) and \(3,\)"):
        angular.class_angles(_on_circle(0, 1), [0, 0, 0])

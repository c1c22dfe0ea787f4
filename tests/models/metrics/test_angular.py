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


def test_labels_must_be_one_a_feature():
    with pytest.raises(ValueError, match=r"Received: shapes \(2, 2\) and \(3,\)"):
        angular.class_angles(_on_circle(0, 1), [0, 0, 0])

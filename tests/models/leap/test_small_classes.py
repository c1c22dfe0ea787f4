"""The corrected variance does not hang on how many images a class has; the paper's does."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models.leap import angle_memory
from longtail.models.leap import small_classes

IMAGES = 12_000  # of all classes of one size: the mean of their variances is off by some 2 %


def readings(statistics, images, dimension=64, epochs=12):
    """What classes of one spread read on average, and the truth; each class once a batch, its images in turn."""
    rng, classes = np.random.default_rng(images), IMAGES // images
    counts = np.full(classes, images)
    memory = angle_memory.AngleMemory(counts, statistics=statistics)
    memory.build([None, dimension])
    features = np.eye(1, dimension) + 0.5 / dimension**0.5 * rng.normal(size=(classes, images, dimension))
    everyone = np.arange(classes)
    step = tf.function(memory)
    for _ in range(epochs):
        order = np.argsort(rng.random((classes, images)), axis=1)
        for turn in range(images):
            step(tf.constant(features[everyone, order[:, turn]], tf.float32), tf.constant(everyone))
    variance, known = memory.variance(tf.constant(everyone, tf.int64))
    angles = np.arccos(features[..., 0] / np.linalg.norm(features, axis=-1))
    return variance.numpy().mean(), known.numpy(), angles.var()


@pytest.mark.parametrize("dimension", [16, 64])
def test_classes_of_equal_spread_read_equal_variances_whether_they_have_4_images_or_20(dimension):
    few, many = (readings("corrected", images, dimension) for images in (4, 20))
    assert few[0] / many[0] == pytest.approx(1.0, abs=0.1)
    assert (few[0] / few[2], many[0] / many[2]) == pytest.approx((1.0, 1.0), abs=0.1)


def test_the_papers_reading_of_them_differs_several_times():
    few, many = (readings("paper", images) for images in (4, 20))
    assert 3.0 < few[0] / many[0] < 5.0


def test_two_images_have_no_variance_and_are_taken_for_the_pooled_one():
    assert not readings("corrected", 2, epochs=3)[1].any()
    memory = angle_memory.AngleMemory([20, 20, 2], statistics="corrected")
    rng = np.random.default_rng(0)
    for _ in range(60):
        memory(tf.constant(rng.normal(size=(3, 8)), tf.float32), tf.constant([0, 1, 2]))
    labels = tf.constant([0, 2], tf.int64)
    variance, known = memory.variance(labels)
    assert known.numpy().tolist() == [True, False]
    shrunk, known = memory.shrunk(labels, tf.cast(variance, tf.float32), known)
    pooled = memory.pooled_variance().numpy()
    assert known.numpy().all()
    np.testing.assert_allclose(shrunk, [(18 * variance[0] + 8 * pooled) / 26, pooled], rtol=1e-5)


def test_the_papers_statistics_are_not_shrunk():
    memory = angle_memory.AngleMemory([20, 2])
    memory.build([None, 8])
    variance, known = tf.constant([0.3]), tf.constant([False])
    assert [value.numpy().tolist() for value in memory.shrunk(tf.constant([0], tf.int64), variance, known)] == [
        pytest.approx([0.3]),
        [False],
    ]


def test_factors_say_what_the_angles_of_a_simulated_class_do():
    """In many dimensions the angles' variance is a * true + b * mean^2: a regression of it over two spreads."""
    images, dimension, rng = 5, 256, np.random.default_rng(0)
    a, b = small_classes.factors(images, images_kept=3, centre_momentum=0.9)
    points = rng.normal(size=(600, images, dimension))
    centre, angles = None, []
    for _ in range(11):
        order = np.argsort(rng.random((600, images)), axis=1)
        for turn in range(images):
            image = points[np.arange(600), order[:, turn]]
            if centre is not None:
                angles.append(np.linalg.norm(image - centre, axis=1))
            centre = image if centre is None else 0.9 * centre + 0.1 * image
    kept = np.array(angles[-3 * images :])
    true = np.linalg.norm(points, axis=2).var()
    wanted = a * true + b * kept.mean() ** 2
    assert kept.var(axis=0, ddof=1).mean() == pytest.approx(wanted, rel=0.1)

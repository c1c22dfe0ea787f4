"""The within-class scatter against a naive float64 one, and its quadratic forms with their gradients."""

import numpy as np
import tensorflow as tf

from longtail.models.leap import class_scatter


class Naive:
    """Centres and scatter as the docstring has them, one class after the other."""

    def __init__(self):
        self.centres, self.sigma, self.batches = {}, np.zeros([6, 6]), 0

    def update(self, features, labels):
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        apart = [u - self.centres[y] for u, y in zip(unit, labels, strict=True) if y in self.centres]
        if apart:
            self.batches += 1
            rate = max(0.05, 1 / self.batches)
            said = sum(np.outer(one, one) for one in apart) / len(apart)
            self.sigma = (1 - rate) * self.sigma + rate * said
        for y in set(labels.tolist()):
            mean = unit[labels == y].mean(axis=0)
            self.centres[y] = 0.9 * self.centres[y] + 0.1 * mean if y in self.centres else mean


def made(classes=5, **settings):
    layer = class_scatter.ClassScatter(classes, **settings)
    layer.build([None, 6])
    return layer


def test_sigma_and_centres_are_those_of_a_naive_scatter():
    rng, layer, naive = np.random.default_rng(0), made(), Naive()
    for _ in range(40):
        features, labels = rng.normal(size=(7, 6)) + 1.0, rng.integers(0, 5, 7)
        layer(tf.constant(features, tf.float32), tf.constant(labels))
        naive.update(features, labels)
    np.testing.assert_allclose(layer.sigma, naive.sigma, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.centres, [naive.centres[y] for y in range(5)], rtol=1e-4, atol=1e-6)


def test_sigma_comes_to_the_scatter_that_images_are_drawn_from():
    rng, layer = np.random.default_rng(1), made()
    centres, spread = np.eye(5, 6), np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.1])
    for _ in range(400):
        labels = rng.integers(0, 5, 32)
        layer(tf.constant(centres[labels] + spread * rng.normal(size=(32, 6)), tf.float32), tf.constant(labels))
    wanted = np.zeros([6, 6])
    wanted[5, 5] = 0.1**2 * (1 + 1 / 19)  # and the centre's own, a mean of some nineteen images
    np.testing.assert_allclose(layer.sigma, wanted, atol=1.5e-3)


def test_what_is_not_finite_is_left_out_and_a_zero_row_does_no_harm():
    layer, row = made(), np.ones(6)
    layer(tf.constant([row, row], tf.float32), tf.constant([0, 1]))
    before = layer.centres.numpy()
    layer(tf.constant([row * np.inf, row * np.nan], tf.float32), tf.constant([0, 1]))
    np.testing.assert_array_equal(layer.centres, before)
    assert layer.batches.numpy() == 0
    layer(tf.constant([row * 6e4, row * 0], tf.float16), tf.constant([0, 1]))
    assert all(np.isfinite(weight.numpy()).all() for weight in layer.weights)


def test_root_is_that_of_sigma_in_its_widest_directions():
    rng, layer = np.random.default_rng(3), made(rank=2)
    spread = np.array([0.02, 0.03, 0.3, 0.02, 0.2, 0.01])
    for _ in range(60):
        labels = rng.integers(0, 5, 32)
        rows = np.eye(5, 6)[labels] + spread * rng.normal(size=(32, 6))
        root = layer(tf.constant(rows, tf.float32), tf.constant(labels)).numpy()
    variances, directions = np.linalg.eigh(layer.sigma.numpy().astype(np.float64))
    nearest = (directions[:, -2:] * variances[-2:]) @ directions[:, -2:].T
    assert variances[-3] > 1e-4
    np.testing.assert_allclose(root @ root.T, nearest, atol=2e-3 * variances[-1])


def test_of_as_many_directions_as_dimensions_the_root_is_that_of_all_sigma():
    rng, layer = np.random.default_rng(4), made(rank=99)
    for _ in range(3):
        root = layer(tf.constant(rng.normal(size=(7, 6)), tf.float32), tf.constant(rng.integers(0, 5, 7))).numpy()
    assert layer.directions.shape == (6, 6)
    np.testing.assert_allclose(root @ root.T, layer.sigma, atol=1e-5)


def test_directions_are_orthonormal_also_where_sigma_has_fewer():
    layer, row = made(rank=4), np.eye(6)
    for first in (0, 0, 1):  # nothing seen, no deviation, and one of rank one
        root = layer(tf.constant(row[first : first + 1], tf.float32), tf.constant([2])).numpy()
        assert np.isfinite(root).all()
        np.testing.assert_allclose(layer.directions.numpy().T @ layer.directions.numpy(), np.eye(4), atol=1e-5)
    np.testing.assert_allclose(root @ root.T, layer.sigma, atol=1e-5)

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


def made(classes=5):
    layer = class_scatter.ClassScatter(classes)
    layer.build([None, 6])
    return layer


def test_sigma_and_centres_are_those_of_a_naive_scatter():
    rng, layer, naive = np.random.default_rng(0), made(), Naive()
    for _ in range(40):
        features, labels = rng.normal(size=(7, 6)) + 1.0, rng.integers(0, 5, 7)
        sigma = layer(tf.constant(features, tf.float32), tf.constant(labels))
        naive.update(features, labels)
    np.testing.assert_allclose(sigma, naive.sigma, rtol=1e-4, atol=1e-6)
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


def test_quadratic_forms_and_their_gradients_are_those_of_the_formula():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(6, 6))
    sigma, prototypes = tf.constant(root @ root.T), tf.constant(rng.normal(size=(6, 9)))
    upstream = tf.constant(rng.normal(size=9))
    with tf.GradientTape() as tape:
        tape.watch(prototypes)
        unit = prototypes / tf.norm(prototypes, axis=0)
        wanted = tf.einsum("dc,de,ec->c", unit, sigma, unit)
    gradient = tape.gradient(wanted, prototypes, upstream)
    narrow = tf.cast(prototypes, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(narrow)
        inverse = 1.0 / tf.norm(narrow, axis=0)
        found = class_scatter.quadratic_forms(narrow, inverse, tf.cast(sigma, tf.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    slope = tape.gradient(found, narrow, tf.cast(upstream, tf.float32))
    np.testing.assert_allclose(slope, gradient, rtol=1e-3, atol=1e-4)

"""The cloud without draws: against its formula, its finite differences, and the mean of what is drawn."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from longtail.models.leap import closed_form
from longtail.models.leap import cloud_noise

SCALE = 12.0


def logits(cosine, width):
    products = tf.constant(cosine * 2.0, tf.float32)
    return closed_form.expected_logits(products, tf.fill([cosine.shape[1]], 0.5), SCALE, tf.constant(width, tf.float32))


@pytest.fixture
def cosine():
    return np.cos(np.random.default_rng(0).uniform(0.0, np.pi, (4, 40)))


def test_each_logit_is_the_second_order_formula(cosine):
    width = np.array([0.0, 0.1, 0.3, 1.5])
    v = width[:, np.newaxis] ** 2
    wanted = SCALE * cosine * np.exp(-v / 2) + SCALE**2 * v * (1 - cosine**2) / 2
    np.testing.assert_allclose(logits(cosine, width), wanted, rtol=1e-5, atol=1e-4)


def test_both_gradients_are_those_that_tensorflow_makes_of_the_formula(cosine):
    width, inverse = tf.constant([0.0, 0.1, 0.3, 1.5]), tf.linspace(0.5, 2.0, 40)
    products = tf.constant(0.999 * cosine, tf.float32) / inverse
    upstream = tf.constant(np.random.default_rng(1).normal(size=cosine.shape), tf.float32)
    v = tf.square(width)[:, tf.newaxis]

    def formula():
        c = products * inverse
        return SCALE * c * tf.exp(-v / 2) + SCALE**2 * v * (1 - c * c) / 2

    gradients = []
    for function in (formula, lambda: closed_form.expected_logits(products, inverse, SCALE, width)):
        with tf.GradientTape() as tape:
            tape.watch((products, inverse))
            value = function()
        gradients.append(tape.gradient(value, (products, inverse), upstream))
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("width, tolerance", [(0.05, 0.01), (0.1, 0.05), (0.155, 0.25)])
def test_the_exponential_is_the_mean_one_of_the_drawn_cloud(width, tolerance):
    theta = np.linspace(0.6, 2.5, 12)
    products = np.broadcast_to(np.cos(theta), [100_000, 12])
    keys = cloud_noise.row_keys(100_000, tf.constant([1, 2], tf.int64))
    widths = tf.fill([100_000], tf.constant(width, tf.float32))
    drawn = cloud_noise.clouded_cosines(tf.constant(products, tf.float32), tf.ones([12]), SCALE, widths, keys)
    mean = np.log(np.exp(drawn.numpy().astype(np.float64)).mean(axis=0))
    closed = logits(np.cos(theta)[np.newaxis], np.array([width]))[0]
    np.testing.assert_allclose(closed, mean, atol=tolerance)
    unturned = SCALE * np.cos(theta)
    assert np.abs(closed - mean).max() < 0.2 * np.abs(unturned - mean).max()


def cross_entropy(logits, margin):
    """Of class 0, by rows, its logit less a margin."""
    logits = logits - margin * (np.arange(logits.shape[-1]) == 0)
    return np.logaddexp.reduce(logits, axis=-1) - logits[..., 0]


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    scale=st.floats(4.0, 24.0), width=st.floats(0.02, 0.2), margin=st.floats(0.0, 0.4), seed=st.integers(0, 2**31 - 1)
)
def test_a_drawn_cloud_asks_on_average_for_no_less_than_a_smaller_scale_does(scale, width, margin, seed):
    """E[log sum exp z] >= log sum exp E[z] by Jensen's inequality, and E[z] = s exp(-v / 2) cos theta.

    So it is bounded from below by CosFace's loss at the scale exp(-v / 2) s, with s m as it was.
    """
    draws = 4000
    theta = np.random.default_rng(seed).uniform(6 * width, np.pi - 6 * width, 8)  # no draw is clipped
    keys = cloud_noise.row_keys(draws, tf.constant([seed, 0], tf.int64))
    products = tf.constant(np.broadcast_to(np.cos(theta), [draws, 8]), tf.float32)
    widths = tf.fill([draws], tf.constant(width, tf.float32))
    drawn = cloud_noise.clouded_cosines(products, tf.ones([8]), scale, widths, keys).numpy().astype(np.float64)
    mean, error = drawn.mean(axis=0), drawn.std(axis=0) / np.sqrt(draws)
    np.testing.assert_array_less(np.abs(mean - scale * np.exp(-(width**2) / 2) * np.cos(theta)), 5.0 * error + 1e-4)
    losses = cross_entropy(drawn, scale * margin)
    smaller = cross_entropy(scale * np.exp(-(width**2) / 2) * np.cos(theta), scale * margin)
    assert losses.mean() >= smaller - 5.0 * losses.std() / np.sqrt(draws) - 1e-4


def test_value_and_gradient_are_finite_at_and_beyond_the_ends():
    products = tf.constant([[1.0, -1.0, 1.0 + 1e-6, 30.0, -1e30, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(products)
        value = closed_form.expected_logits(products, tf.ones([6]), SCALE, tf.constant([0.5]))
    assert np.isfinite(value).all() and np.isfinite(tape.gradient(value, products)).all()

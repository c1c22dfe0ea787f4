"""The draws of the cloud, as a million of them look, and the fused passes against the formula they stand for."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from longtail.models.leap import cloud_noise


def drawn(rows, columns, step=0, seed=0):
    keys = cloud_noise.row_keys(rows, tf.constant([seed, step], tf.int64))
    numbers = tf.bitcast(tf.range(columns), tf.uint32)
    return cloud_noise.draw(keys[:, tf.newaxis, :], numbers).numpy().astype(np.float64)


def correlation_in_sigmas(a, b):
    """Correlation of two samples in standard errors of that of independent ones."""
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * np.sqrt(a.size)


@pytest.mark.parametrize(("rows", "columns"), [(10, 100_000), (1000, 1000), (100_000, 10)])
def test_a_million_draws_pass_kolmogorov_smirnov_against_the_normal(rows, columns):
    assert stats.kstest(drawn(rows, columns).ravel(), "norm").pvalue > 1e-3


def test_a_million_draws_have_the_moments_of_the_normal():
    draws = drawn(1000, 1000, seed=1).ravel()
    assert abs(draws.mean()) < 4.5 / 1e3
    assert abs(draws.var() - 1.0) < 4.5 * np.sqrt(2 / 1e6)
    assert abs((draws**3).mean()) < 4.5 * np.sqrt(15 / 1e6)
    assert abs((draws**4).mean() - 3.0) < 4.5 * np.sqrt(96 / 1e6)
    assert 4.3 < np.abs(draws).max() < 5.6


@pytest.mark.parametrize("power", [1, 2])
def test_a_million_draws_show_no_correlation_across_rows_classes_or_steps(power):
    here, later = drawn(1000, 1001) ** power, drawn(1000, 1001, step=1) ** power
    assert correlation_in_sigmas(here, later) < 4.5
    for lag in (1, 2, 7, 16, 64, 256):
        assert correlation_in_sigmas(here[lag:], here[:-lag]) < 4.5
        assert correlation_in_sigmas(here[:, lag:], here[:, :-lag]) < 4.5


def test_no_two_rows_of_a_batch_are_correlated():
    correlations = np.corrcoef(drawn(128, 8192))[np.triu_indices(128, 1)] * np.sqrt(8192)
    assert np.abs(correlations).max() < 5.5
    assert stats.kstest(correlations, "norm").pvalue > 1e-3


def test_no_row_is_a_shifted_copy_of_another_row_or_step():
    rows = np.concatenate([drawn(32, 16384), drawn(32, 16384, step=1)])
    spectra = np.fft.rfft(rows, n=32768)
    for first in range(0, 64, 8):
        at_lags = np.fft.irfft(spectra[first] * spectra.conj()) / np.sqrt(16384)
        at_lags[first] = 0.0  # itself
        assert np.abs(at_lags).max() < 6.5


def test_a_draw_is_a_function_of_its_key_and_class_alone():
    keys = cloud_noise.row_keys(4, tf.constant([3, 5], tf.int64))
    one = cloud_noise.draw(keys, tf.constant([7, 7, 900, 0], tf.uint32)).numpy()
    np.testing.assert_array_equal(one, drawn(4, 1000, step=5, seed=3)[[0, 1, 2, 3], [7, 7, 900, 0]])


def passes(cosine, width, seed=0):
    """Value and gradient of the fused passes and of `shifted_cosine` on the same draws."""
    rows, classes = cosine.shape
    keys = cloud_noise.row_keys(rows, tf.constant([seed, 0], tf.int64))
    inverse = tf.linspace(0.5, 2.0, classes)
    products = tf.constant(cosine / inverse.numpy(), tf.float32)
    widths = tf.constant(np.broadcast_to(width, [rows]), tf.float32)
    upstream = tf.constant(np.random.default_rng(1).normal(size=cosine.shape), tf.float32)
    alpha = widths[:, tf.newaxis] * drawn(rows, classes, seed=seed).astype(np.float32)
    results = []
    for function in (
        lambda: cloud_noise.clouded_cosines(products, inverse, 16.0, widths, keys),
        lambda: 16.0 * cloud_noise.shifted_cosine(products * inverse, alpha),
    ):
        with tf.GradientTape() as tape:
            tape.watch((products, inverse))
            value = function()
        gradients = tape.gradient(value, (products, inverse), upstream)
        results.append([array.numpy() for array in (value, *gradients)])
    return results


@pytest.mark.parametrize("width", [0.0, 0.2, 0.5, 2.0])
def test_the_fused_passes_are_the_shifted_cosine_and_its_gradient(width):
    cosine = np.cos(np.random.default_rng(0).uniform(0.05, np.pi - 0.05, (16, 300)))
    fused, plain = passes(cosine, width)
    for one, two in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-4)


def test_the_fused_passes_are_finite_and_flat_beyond_the_ends():
    cosine = np.tile([1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6, 0.0, 30.0, -1e30, 1e-30], (8, 1))
    (value, slope, _), _ = passes(cosine, 0.5)
    assert np.isfinite(value).all() and np.abs(value).max() <= 16.0
    assert np.isfinite(slope).all()
    assert not slope[:, [0, 1, 2, 3, 5, 6]].any()


def test_a_row_without_a_cloud_keeps_its_cosines():
    cosine = np.linspace(-0.99, 0.99, 50)[np.newaxis].repeat(2, axis=0)
    (value, _, _), _ = passes(cosine, [0.0, 0.3])
    np.testing.assert_allclose(value[0], 16.0 * cosine[0], rtol=1e-6, atol=1e-6)
    assert np.abs(value[1] - 16.0 * cosine[1]).max() > 0.1

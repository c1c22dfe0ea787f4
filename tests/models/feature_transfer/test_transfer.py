"""Eq. 6: head images' deviations around tail centres, against NumPy in float64."""

import numpy as np
import tensorflow as tf

from longtail.models.feature_transfer import statistics
from longtail.models.feature_transfer import transfer
from tests.models.feature_transfer import test_statistics

HEAD, TAIL = 0, 5


def known(energy=0.9):
    """A transfer that knows its centres and directions, and what it was made from."""
    rich, labels = test_statistics.drawn()
    centres = statistics.centres(rich, labels, test_statistics.CLASSES)
    is_head = np.arange(test_statistics.CLASSES) < 3
    basis = statistics.directions(statistics.covariance(rich, labels, centres, is_head), energy).basis
    layer = transfer.FeatureTransfer(test_statistics.CLASSES)
    layer.build([None, rich.shape[1]])
    layer.known(centres, basis)
    return layer, rich, labels, centres, basis


def test_transferred_features_are_those_of_equation_6():
    layer, rich, labels, centres, basis = known()
    to = np.full(len(labels), TAIL)
    wanted = [centres[TAIL] + basis @ basis.T @ (g - centres[y]) for g, y in zip(rich, labels, strict=True)]
    np.testing.assert_allclose(layer(tf.constant(rich), labels, to), wanted, atol=1e-5)


def test_the_mean_of_what_is_transferred_is_the_tails_centre_and_not_the_heads():
    layer, rich, labels, centres, _ = known()
    of_head = rich[labels == HEAD]
    rows = np.full(len(of_head), HEAD), np.full(len(of_head), TAIL)
    np.testing.assert_allclose(layer(tf.constant(of_head), *rows).numpy().mean(axis=0), centres[TAIL], atol=1e-5)
    assert np.linalg.norm(centres[TAIL] - centres[HEAD]) > 1.0


def test_at_all_energy_whole_deviations_are_transferred():
    layer, rich, labels, centres, _ = known(energy=1.0)
    found = layer(tf.constant(rich), labels, np.full(len(labels), TAIL))
    np.testing.assert_allclose(found, centres[TAIL] + rich - centres[labels], atol=1e-4)


def test_random_directions_keep_the_length_of_what_is_transferred():
    layer, rich, labels, centres, _ = known()
    to = np.full(len(labels), TAIL)
    moved = layer(tf.constant(rich), labels, to) - centres[TAIL]
    drawn = layer.at_random(tf.constant(rich), labels, to, [0, 1]) - centres[TAIL]
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(moved, axis=1), rtol=1e-4)
    assert np.abs(np.sum(drawn * moved, axis=1)).mean() < 0.5 * np.square(moved).sum(axis=1).mean()


def test_interpolations_begin_at_the_image_or_centre_and_end_where_a_transfer_would():
    _, rich, labels, centres, basis = known()
    g = rich[labels == HEAD][0].astype(np.float64)
    np.testing.assert_allclose(transfer.keep_identity(centres[1], g, centres[HEAD], basis, 0.0), centres[1])
    moved = centres[1] + basis @ basis.T @ (g - centres[HEAD])
    np.testing.assert_allclose(transfer.keep_identity(centres[1], g, centres[HEAD], basis, 1.0), moved)
    np.testing.assert_allclose(transfer.change_identity(g, centres[HEAD], centres[1], 0.0), g)
    moved = g + centres[1] - centres[HEAD]
    np.testing.assert_allclose(transfer.change_identity(g, centres[HEAD], centres[1], 1.0), moved)

"""The balanced losses and the centre loss against their papers' formulas in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import losses

COUNTS = np.array([100, 20, 4, 1])


def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels])


def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(6, 4)), np.array([0, 0, 1, 2, 3, 3])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 1 - 1e-7])
def test_weights_are_one_over_the_effective_number(beta):
    effective = [sum(beta**power for power in range(count)) for count in COUNTS]
    wanted = 1.0 / np.array(effective)
    got = losses.effective_number_weights(COUNTS, beta)
    np.testing.assert_allclose(got, wanted / wanted.mean(), rtol=1e-6)


def test_class_balanced_rows_are_weighed_by_their_class():
    logits, labels = batch()
    loss = losses.ClassBalanced(COUNTS, 0.9, tf.Variable(0, dtype=tf.int64))
    wanted = cross_entropy(logits, labels) * losses.effective_number_weights(COUNTS, 0.9)[labels]
    assert loss(tf.constant(labels), tf.constant(logits, tf.float32)).numpy() == pytest.approx(wanted.mean(), rel=1e-5)


def test_deferred_weights_begin_at_their_step():
    logits, labels = batch()
    step = tf.Variable(9, dtype=tf.int64)
    loss = losses.ClassBalanced(COUNTS, 0.9, step, start_step=10)
    inputs = tf.constant(labels), tf.constant(logits, tf.float32)
    plain = cross_entropy(logits, labels)
    assert loss(*inputs).numpy() == pytest.approx(plain.mean(), rel=1e-5)
    step.assign(10)
    weighed = plain * losses.effective_number_weights(COUNTS, 0.9)[labels]
    assert loss(*inputs).numpy() == pytest.approx(weighed.mean(), rel=1e-5)


def test_balanced_softmax_is_the_softmax_under_the_classes_own_shares():
    logits, labels = batch()
    wanted = cross_entropy(logits + np.log(COUNTS / COUNTS.sum()), labels).mean()
    got = losses.BalancedSoftmax(COUNTS)(tf.constant(labels), tf.constant(logits, tf.float32))
    assert got.numpy() == pytest.approx(wanted, rel=1e-5)


def test_centre_loss_is_half_the_squared_distance_and_moves_the_centres_by_equation_4():
    rng = np.random.default_rng(1)
    layer = losses.CentreLoss(4, weight=0.1, rate=0.5)
    layer.build([None, 3])
    centres = np.zeros((4, 3))
    for _ in range(3):
        features, labels = rng.normal(size=(6, 3)), np.array([0, 0, 0, 1, 2, 2])
        got = layer(tf.constant(features, tf.float32), tf.constant(labels)).numpy()
        assert got == pytest.approx(0.05 * np.mean(np.sum((features - centres[labels]) ** 2, axis=1)), rel=1e-5)
        for label in range(4):
            own = features[labels == label]
            centres[label] += 0.5 * (own - centres[label]).sum(axis=0) / (1 + len(own))
        np.testing.assert_allclose(layer.centres.numpy(), centres, atol=1e-5)


def test_centre_loss_pulls_features_and_not_centres():
    layer = losses.CentreLoss(2, weight=1.0)
    layer.build([None, 2])
    features = tf.constant([[1.0, 2.0], [3.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = layer(features, tf.constant([0, 1]))
    np.testing.assert_allclose(tape.gradient(loss, features), features / 2.0)
    assert not layer.trainable_weights


def test_replicas_move_the_centres_as_one_device_would(two_replicas):
    rng = np.random.default_rng(2)
    features, labels = rng.normal(size=(8, 3)).astype(np.float32), np.array([0, 0, 1, 1, 0, 2, 2, 2])
    single = losses.CentreLoss(3, weight=0.003)
    single(tf.constant(features), tf.constant(labels))
    with two_replicas.scope():
        layer = losses.CentreLoss(3, weight=0.003)
        layer.build([None, 3])

    @tf.function
    def step():
        def replica():
            half = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = slice(4 * half, 4 * half + 4)
            layer(tf.constant(features)[rows], tf.constant(labels)[rows])

        two_replicas.run(replica)

    step()
    np.testing.assert_allclose(layer.centres.numpy(), single.centres.numpy(), atol=1e-6)


def test_the_triplet_head_gets_semi_hard_triplets():
    config = config_lib.TrainConfig(head=config_lib.Head("triplet", 1.0, 0.2))
    loss = losses.build_loss(config, COUNTS, tf.Variable(0, dtype=tf.int64), 1)
    embeddings = tf.math.l2_normalize(tf.constant([[1.0, 0.0], [1.0, 0.3], [1.0, 0.5], [-1.0, 0.0]]), axis=1).numpy()
    labels = np.array([0, 0, 1, 1])
    squared = np.sum((embeddings[:, np.newaxis] - embeddings[np.newaxis]) ** 2, axis=2)
    terms = []
    for anchor in range(4):
        for positive in np.flatnonzero(labels == labels[anchor]):
            if positive != anchor:
                to_positive, negatives = squared[anchor, positive], squared[anchor, labels != labels[anchor]]
                farther = negatives[negatives > to_positive]
                negative = farther.min() if farther.size else negatives.max()
                terms.append(max(0.0, to_positive - negative + 0.2))
    got = loss(tf.constant(labels), tf.constant(embeddings)).numpy()
    assert got == pytest.approx(np.mean(terms), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: losses.effective_number_weights([3, 0], 0.9), "Received: 0"),
        (lambda: losses.effective_number_weights([3, 1], 1.0), "loss.beta must be a number from 0 to .*, not 1.0"),
        (lambda: losses.BalancedSoftmax([3, 0]), "Received: 0"),
        (lambda: losses.CentreLoss(3, weight=-1.0), "loss.centre_weight must be .*, not -1.0"),
        (lambda: losses.CentreLoss(3, weight=1.0, rate=0.0), "loss.centre_rate must be .*, not 0.0"),
    ],
)
def test_bad_arguments_say_what_they_received(make, said):
    with pytest.raises(errors.UsageError, match=said):
        make()


def test_m_l2_is_equation_3_with_its_gradients_in_float64():
    rng = np.random.default_rng(2)
    features, weights = rng.normal(size=(6, 5)), rng.normal(size=(5, 4))
    products = features @ weights
    with tf.GradientTape() as tape:
        inputs = [tf.constant(each, tf.float32) for each in (features, weights)]
        tape.watch(inputs)
        loss = losses.metric_l2(*inputs)
    assert loss.numpy() == pytest.approx((products**2).sum(axis=1).mean(), rel=1e-5)
    of_features, of_weights = tape.gradient(loss, inputs)
    np.testing.assert_allclose(of_features, 2 * products @ weights.T / 6, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_weights, 2 * features.T @ products / 6, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_reconstruction_is_equation_2_in_float64(over):
    drawn, images = np.random.default_rng(3).uniform(-1, 1, (2, 3, 4, 5, 2))
    squares = (drawn - images) ** 2
    wanted = squares.mean() if over == "mean" else squares.reshape(3, -1).sum(axis=1).mean()
    got = losses.reconstruction(tf.constant(drawn, tf.float32), tf.constant(images, tf.float32), over)
    assert got.numpy() == pytest.approx(wanted, rel=1e-5)

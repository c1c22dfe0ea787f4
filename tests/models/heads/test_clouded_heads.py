"""Heads under the cloud's other forms, recomputed in float64: closed, constant noise and directional."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models import heads
from longtail.models.leap import cloud_noise
from longtail.models.leap import feature_cloud

CLASSES, DIMENSION, SCALE, MARGIN = 9, 6, 16.0, 0.3
COUNTS = [20] * 3 + [3] * 6
LABELS = np.array([0, 3, 8, 3, 2])
STRENGTH, POWER = 0.7, 0.5  # of the directional cloud
CLOUDS = {
    "noise": {"variant": "noise_tail"},
    "closed": {"variant": "noise_all", "form": "closed"},
    "corrected": {"variant": "vanilla", "statistics": "corrected", "form": "closed"},
    "directional": {"variant": "directional", "strength": 2.0},
    "by size": {"variant": "directional", "strength": 2.0, "size_power": 1.0},
}


def made(kind="cosface", margin=MARGIN, **settings):
    cloud = feature_cloud.FeatureCloud(COUNTS, head_threshold=10, **settings)
    head = heads.HEADS[kind](CLASSES, SCALE, margin, cloud, counts=COUNTS)
    head.build([(None, DIMENSION), (None,)])
    return head


def batch(seed=0):
    return np.random.default_rng(seed).normal(size=(5, DIMENSION))


def logits(head, features):
    return head((tf.constant(features, tf.float32), tf.constant(LABELS)), training=True).numpy()


def unit(array, axis):
    return array / np.linalg.norm(array, axis=axis, keepdims=True)


def at_target(matrix, values):
    matrix = matrix.copy()
    matrix[np.arange(len(LABELS)), LABELS] = values
    return matrix


MARGINS = {
    "cosface": lambda theta, shrinkage: shrinkage * np.cos(theta) - MARGIN,
    "arcface": lambda theta, shrinkage: shrinkage * np.cos(np.minimum(theta + MARGIN, np.pi)),
    "normface": lambda theta, shrinkage: shrinkage * np.cos(theta),
}


@pytest.mark.parametrize("kind", MARGINS)
def test_logits_of_the_closed_form_are_the_second_order_formula_and_its_target_the_shrunk_cosine(kind):
    head, features = made(kind, variant="noise_all", form="closed", width=0.2), batch()
    weights = head.prototypes.numpy().astype(np.float64)
    cosine, v = unit(features, 1) @ unit(weights, 0), 0.2**2
    theta = np.arccos(cosine[np.arange(5), LABELS])
    wanted = SCALE * cosine * np.exp(-v / 2) + SCALE**2 * v * (1 - cosine**2) / 2
    wanted = at_target(wanted, SCALE * MARGINS[kind](theta, np.exp(-v / 2)))
    np.testing.assert_allclose(logits(head, features), wanted, atol=2e-4)


def test_closed_target_is_the_mean_of_the_drawn_one():
    cosine, margin, width = np.cos([0.7, 1.4, 2.2]), 0.3, 0.15
    head = heads.ArcFace(3, margin=margin)
    rows = tf.tile(tf.constant(cosine, tf.float32), [50_000])
    alpha = tf.constant(width * np.random.default_rng(0).normal(size=150_000), tf.float32)
    drawn = head.target_logit(heads.Target(rows, alpha, rows, rows)).numpy().reshape(-1, 3).mean(axis=0)
    still = heads.Target(rows[:3], tf.zeros([3]), rows, rows, shrinkage=1.0 - width**2 / 2)
    np.testing.assert_allclose(head.target_logit(still), drawn, atol=2e-3)


def test_constant_noise_turns_the_rows_of_its_classes_by_the_very_draws_of_leap():
    head, features = made(variant="noise_tail", width=0.2, seed=4), batch()
    keys = head.cloud._keys(5, tf.constant(0, tf.int64))
    alpha = 0.2 * cloud_noise.draw(keys[:, tf.newaxis], tf.bitcast(tf.range(CLASSES), tf.uint32)).numpy()
    alpha[np.array(COUNTS)[LABELS] > 10] = 0.0
    weights = head.prototypes.numpy().astype(np.float64)
    theta = np.arccos(unit(features, 1) @ unit(weights, 0))
    turned = np.cos(np.clip(theta + alpha, 0, np.pi))
    wanted = SCALE * at_target(turned, turned[np.arange(5), LABELS] - MARGIN)
    np.testing.assert_allclose(logits(head, features), wanted, atol=2e-4)


def directional(unit_features, prototypes, sigma):
    """The formula as written: every difference w_j - w_y made and multiplied out; no margin."""
    strength = STRENGTH * (min(COUNTS) / np.array(COUNTS)[LABELS, np.newaxis]) ** POWER
    w = prototypes / tf.norm(prototypes, axis=0)
    apart = w[:, tf.newaxis, :] - tf.gather(w, LABELS, axis=1)[:, :, tf.newaxis]  # [d, B, C]
    rise = tf.einsum("dbc,de,ebc->bc", apart, sigma, apart)
    return SCALE * unit_features @ w + SCALE**2 / 2 * strength * rise


@pytest.fixture(params=[2, DIMENSION])
def spread(request):
    """A directional head whose Sigma has seen some batches, and that Sigma after one batch more."""
    settings = {"strength": STRENGTH, "size_power": POWER, "rank": request.param}
    head, twin = (made("normface", 0.0, variant="directional", **settings) for _ in range(2))
    twin.prototypes.assign(head.prototypes)
    for seed in range(6):
        logits(head, batch(seed)), logits(twin, batch(seed))
    logits(twin, batch(9))
    root = twin.cloud.scatter.root().numpy().astype(np.float64)
    return head, root @ root.T


def test_logits_of_a_directional_cloud_are_the_quadratic_form_of_every_difference(spread):
    head, sigma = spread
    assert np.abs(sigma).max() > 0.05
    wanted = directional(unit(batch(9), 1), tf.constant(head.prototypes.numpy(), tf.float64), sigma)
    np.testing.assert_allclose(logits(head, batch(9)), wanted, rtol=1e-4, atol=1e-3)


def test_gradients_of_a_directional_cloud_are_those_of_the_formula_in_float64(spread):
    head, sigma = spread
    features, upstream = tf.constant(batch(9)), np.random.default_rng(3).normal(size=(5, CLASSES))
    prototypes = tf.constant(head.prototypes.numpy(), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch((features, prototypes))
        value = directional(tf.math.l2_normalize(features, axis=1), prototypes, sigma)
    wanted = tape.gradient(value, (features, prototypes), tf.constant(upstream))
    narrow = tf.cast(features, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(narrow)
        value = head((narrow, tf.constant(LABELS)), training=True)
    found = tape.gradient(value, (narrow, head.prototypes), tf.constant(upstream, tf.float32))
    for one, two in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_loss_gradients_and_state_are_finite_on_aligned_opposite_zero_and_huge_features(name, dtype):
    head = made(**CLOUDS[name])
    head.prototypes.assign(np.eye(DIMENSION, CLASSES))
    rows = [[1, 0, 0], [-1, 0, 0], [0, 0, 0], [6e4, 6e4, 0], [1e-7, 0, 0]]
    features = tf.constant(np.pad(rows, ((0, 0), (0, 3))), dtype)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(features)
            found = head((features, tf.constant(LABELS)), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, found))
        assert found.dtype == tf.float32 and np.isfinite(loss.numpy())
        assert all(np.isfinite(one.numpy()).all() for one in tape.gradient(loss, [features, head.prototypes]))
        assert all(np.isfinite(weight.numpy()).all() for weight in head.weights)


@pytest.mark.parametrize("kind", [name for name, head in heads.HEADS.items() if head.CLOUD_FORMS])
@pytest.mark.parametrize("name", ["closed", "directional"])
def test_every_margin_head_takes_these_clouds_or_says_why_not(kind, name):
    margin = max(0.2, heads.HEADS[kind].MARGINS[0])
    if name not in heads.HEADS[kind].CLOUD_FORMS:
        with pytest.raises(errors.UsageError, match=f"takes no {name} cloud; drawn"):
            made(kind, margin, **CLOUDS[name])
        return
    head = made(kind, margin, **CLOUDS[name])
    plain = heads.HEADS[kind](CLASSES, SCALE, margin, counts=COUNTS)
    plain.build([(None, DIMENSION), (None,)])
    plain.prototypes.assign(head.prototypes)
    logits(head, batch(1)), logits(plain, batch(1))  # from the second batch on there is a scatter
    assert np.abs(logits(head, batch(2)) - logits(plain, batch(2))).max() > 0.1

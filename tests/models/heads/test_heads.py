"""Heads against the papers' formulas in float64 NumPy, and on angles where naive formulas give NaN."""

import json

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models import heads
from longtail.models.leap import cloud_noise
from longtail.models.leap import feature_cloud


def reference(features, weights, labels, scale, margin, kind, alpha):
    """Eq. 7 and 8 of LEAP with arccos, float64."""
    f = features / np.linalg.norm(features, axis=1, keepdims=True)
    w = weights / np.linalg.norm(weights, axis=0, keepdims=True)
    theta = np.arccos(np.clip(f @ w, -1, 1))
    logits = scale * np.cos(np.clip(theta + alpha, 0, np.pi))
    for row, label in enumerate(labels):
        angle = theta[row, label] + alpha[row, label]
        if kind == "arcface":
            logits[row, label] = scale * np.cos(np.clip(angle + margin, 0, np.pi))
        elif kind == "cosface":
            logits[row, label] = scale * (np.cos(np.clip(angle, 0, np.pi)) - margin)
        elif kind == "sphereface":
            turned = margin * np.clip(angle, 0, np.pi)
            k = np.floor(turned / np.pi)
            logits[row, label] = scale * ((-1.0) ** k * np.cos(turned) - 2 * k)
    return logits


class FixedCloud(feature_cloud.FeatureCloud):
    """A cloud whose width and draws are given."""

    def __init__(self, rows, classes, width):
        super().__init__([2] * classes)
        self.width = tf.fill([rows], tf.constant(width, tf.float32))
        self.keys = cloud_noise.row_keys(rows, tf.constant([1, 2], tf.int64))

    def spread(self, features, labels):
        return self.width, self.keys

    def alpha(self):
        """float64 [B, C], as `shifted_cosine` clips it."""
        return np.clip(self.call(None, None).numpy().astype(np.float64), -np.pi, np.pi)


MARGINS = {"normface": 0.0, "cosface": 0.3, "arcface": 0.3, "sphereface": 2.5}


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_logits_are_equations_7_and_8(kind, spread):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(6, 5)), rng.integers(0, 40, 6)
    cloud = FixedCloud(6, 40, spread)
    head = heads.HEADS[kind](40, 16.0, MARGINS[kind], cloud if spread else None)
    got = head((tf.constant(features, tf.float32), tf.constant(labels)), training=True).numpy()
    weights = head.prototypes.numpy().astype(np.float64)
    wanted = reference(features, weights, labels, 16.0, MARGINS[kind], kind, cloud.alpha())
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_shifted_cosine_is_clipped_at_both_ends():
    cosine = tf.constant(np.cos([0.1, 3.0, 0.1, 3.0]), tf.float32)
    got = heads.shifted_cosine(cosine, tf.constant([-0.2, 0.3, 0.2, -0.3])).numpy()
    np.testing.assert_allclose(got, [1.0, -1.0, np.cos(0.3), np.cos(2.7)], atol=1e-5)


def test_gradient_is_that_of_the_arccos_form():
    cosine = tf.constant(np.linspace(-0.95, 0.95, 21), tf.float64)
    for angle in (-0.4, 0.0, 0.7):
        with tf.GradientTape() as tape:
            tape.watch(cosine)
            shifted = heads.shifted_cosine(tf.cast(cosine, tf.float32), tf.constant(angle, tf.float32))
        got = tape.gradient(shifted, cosine).numpy()
        theta = np.arccos(cosine.numpy())
        inside = (theta + angle > 0.02) & (theta + angle < np.pi - 0.02)
        wanted = np.sin(theta + angle) / np.sin(theta)
        np.testing.assert_allclose(got[inside], wanted[inside], rtol=1e-3, atol=1e-4)
        assert not got[(theta + angle < -0.02) | (theta + angle > np.pi + 0.02)].any()


@pytest.mark.parametrize("kind", MARGINS)
@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_gradients_are_the_finite_differences_of_equations_7_and_8_in_float64(kind, spread):
    rng = np.random.default_rng(7)
    features, labels, upstream = rng.normal(size=(4, 6)), np.array([0, 3, 8, 3]), rng.normal(size=(4, 9))
    cloud = FixedCloud(4, 9, spread)
    head = heads.HEADS[kind](9, 16.0, MARGINS[kind], cloud if spread else None)
    inputs = tf.constant(features, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        logits = head((inputs, tf.constant(labels)), training=True)
    got = tape.gradient(logits, (inputs, head.prototypes), tf.constant(upstream, tf.float32))
    weights = head.prototypes.numpy().astype(np.float64)

    def value(f, w):
        return (upstream * reference(f, w, labels, 16.0, MARGINS[kind], kind, cloud.alpha())).sum()

    for position, gradient in enumerate(got):
        wanted = np.zeros(gradient.shape)
        for index in np.ndindex(*wanted.shape):
            ends = []
            for sign in (1e-6, -1e-6):
                point = [features.copy(), weights.copy()]
                point[position][index] += sign
                ends.append(value(*point))
            wanted[index] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", heads.HEADS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float16])
def test_loss_and_gradients_are_finite_on_aligned_opposite_zero_and_huge_features(kind, dtype):
    made = heads.HEADS[kind]
    cloud = feature_cloud.FeatureCloud([20, 2, 1], variant="full") if made.CLOUD_FORMS else None
    head = made(3, 64.0, max(0.5, made.MARGINS[0]), cloud, counts=[20, 2, 1])
    head.build([(None, 3), (None,)])
    if head.trainable_weights:
        head.prototypes.assign(np.repeat(np.eye(3), head.columns // 3, axis=1))
    rows = [[1, 0, 0], [-1, 0, 0], [0, 0, 0], [6e4, 6e4, 0], [1e-7, 0, 0], [0, 1, 0]]
    features = tf.constant(rows, dtype)
    labels = tf.constant([0, 0, 0, 1, 2, 1])
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = head((features, labels), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            loss = tf.add_n([loss, *head.losses])
        assert logits.dtype == tf.float32
        gradients = tape.gradient(loss, [features, *head.trainable_weights])
        assert np.isfinite(loss.numpy())
        assert all(np.isfinite(g.numpy()).all() for g in gradients)
        assert all(np.isfinite(weight.numpy()).all() for weight in head.weights)


def test_inference_has_neither_margin_nor_cloud():
    plain = heads.CosFace(4, 16.0, 0.5)
    inputs = (tf.random.normal([3, 5]), tf.constant([0, 1, 2]))
    logits = plain(inputs, training=False)
    np.testing.assert_allclose(logits, 16.0 * plain.cosines(inputs[0]), rtol=1e-6)


def test_a_plain_head_has_one_weight_and_a_cloud_adds_only_untrained_state():
    plain, leap = heads.CosFace(4, 16.0), heads.CosFace(4, 16.0, cloud=feature_cloud.FeatureCloud([3] * 4))
    for head in (plain, leap):
        head.build([(None, 5), (None,)])
        assert len(head.trainable_weights) == 1
    assert len(leap.non_trainable_weights) == 7


@pytest.mark.parametrize("kind", heads.HEADS)
def test_config_makes_the_same_head_again(kind):
    made = heads.HEADS[kind]
    cloud = feature_cloud.FeatureCloud([3] * 4, seed=5) if made.CLOUD_FORMS else None
    head = made(4, 16.0, max(0.2, made.MARGINS[0]), cloud, counts=[3] * 4)
    again = made.from_config(json.loads(json.dumps(head.get_config())))
    assert again.get_config() == head.get_config()


@pytest.mark.parametrize(
    "make",
    [
        lambda: heads.CosFace(1),
        lambda: heads.CosFace(4, scale=0.0),
        lambda: heads.ArcFace(4, margin=2.0),
        lambda: heads.SphereFace(4, margin=0.5),
        lambda: heads.CosFace(4, margin=float("nan")),
        lambda: heads.LDAM(4, margin=0.5),
        lambda: heads.MagFace(4, margin=0.9),
    ],
)
def test_bad_arguments_say_what_they_received(make):
    with pytest.raises(errors.UsageError, match="Received|, not "):
        make()


@pytest.mark.parametrize(
    "options, said",
    [({"sub_centers": 2}, "sub_centres"), ({"sub_centres": 0}, "from 1 to 64"), ({"sub_centres": 2.7}, "a whole")],
)
def test_an_option_that_cannot_be_is_named(options, said):
    with pytest.raises(errors.UsageError, match=said):
        heads.SubCentreArcFace(4, options=options)


def test_classes_that_disagree_with_the_census_are_refused():
    with pytest.raises(errors.UsageError, match="counts 3 classes and the head 4"):
        heads.CosFace(4, cloud=feature_cloud.FeatureCloud([2, 2, 2]))


def test_softmax_has_no_angles_for_a_cloud():
    with pytest.raises(errors.UsageError, match="margin head"):
        heads.Softmax(3, cloud=feature_cloud.FeatureCloud([2, 2, 2]))


def test_a_training_step_does_not_retrace():
    head = heads.CosFace(3, 16.0, 0.2, feature_cloud.FeatureCloud([20, 2, 2]))
    head.build([(None, 8), (None,)])
    traces = []

    @tf.function
    def step(features, labels):
        traces.append(1)
        return head((features, labels), training=True)

    for _ in range(4):
        step(tf.random.normal([5, 8]), tf.constant([0, 1, 2, 0, 0]))
    assert len(traces) == 1

"""The heads that LEAP is held against, recomputed in float64 NumPy from their papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import heads
from longtail.models.leap import feature_cloud

CLASSES, DIMENSION, SCALE = 7, 5, 16.0


def batch(seed=0, rows=6):
    rng = np.random.default_rng(seed)
    return 4.0 * rng.normal(size=(rows, DIMENSION)), rng.integers(0, CLASSES, rows)


def logits(head, features, labels):
    return head((tf.constant(features, tf.float32), tf.constant(labels)), training=True).numpy()


def angles(features, weights):
    f = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.arccos(np.clip(f @ (weights / np.linalg.norm(weights, axis=0)), -1, 1))


def weights_of(head):
    return head.prototypes.numpy().astype(np.float64)


def with_target(cosines, labels, target):
    wanted = cosines.copy()
    wanted[np.arange(len(labels)), labels] = target
    return wanted


def of_target(theta, labels):
    return theta[np.arange(len(labels)), labels]


def test_l2_softmax_classifies_features_stretched_to_the_scale():
    head, (features, labels) = heads.L2Softmax(CLASSES, SCALE), batch()
    head.build([(None, DIMENSION), (None,)])
    head.bias.assign(np.arange(CLASSES))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted = SCALE * unit @ weights_of(head) + np.arange(CLASSES)
    np.testing.assert_allclose(logits(head, features, labels), wanted, atol=1e-4)


def test_sphereface_falls_from_one_to_its_least_without_a_step():
    head, margin = heads.SphereFace(2, margin=3.7), 3.7
    theta = np.linspace(0.01, np.pi - 0.01, 2000)
    cosine = tf.constant(np.cos(theta), tf.float32)
    still = tf.zeros_like(cosine)
    got = head.target_logit(heads.Target(cosine, still, still, tf.zeros([2000], tf.int32))).numpy()
    assert np.all(np.diff(got) < 1e-4) and np.abs(np.diff(got)).max() < margin * np.pi / 1000
    assert got[0] > 0.99 and got[-1] < -6.0


def test_sub_centres_take_the_nearest_of_each_class():
    head, (features, labels) = heads.SubCentreArcFace(CLASSES, SCALE, 0.3, options={"sub_centres": 2}), batch()
    got = logits(head, features, labels)
    assert head.prototypes.shape == [DIMENSION, 2 * CLASSES]
    theta = angles(features, weights_of(head)).reshape(-1, CLASSES, 2).min(axis=2)
    wanted = with_target(np.cos(theta), labels, np.cos(np.clip(of_target(theta, labels) + 0.3, 0, np.pi)))
    np.testing.assert_allclose(got, SCALE * wanted, atol=1e-3)


def test_ldam_gives_the_rarest_class_the_whole_margin():
    counts = np.array([16, 1, 81, 4, 2, 2, 2])
    head, (features, labels) = heads.LDAM(CLASSES, SCALE, 0.5, counts=counts), batch()
    got = logits(head, features, labels)
    cosines = np.cos(angles(features, weights_of(head)))
    assert head.margins == pytest.approx([0.25, 0.5, 0.5 / 3, 0.5 / 2**0.5] + 3 * [0.5 / 2**0.25])
    wanted = with_target(cosines, labels, of_target(cosines, labels) - 0.5 * counts[labels] ** -0.25)
    np.testing.assert_allclose(got, SCALE * wanted, atol=1e-3)


def test_curricularface_weighs_hard_entries_by_how_far_training_is():
    head, progress = heads.CurricularFace(CLASSES, SCALE, 0.5, options={"momentum": 0.6}), 0.0
    for seed in range(3):
        features, labels = batch(seed)
        got = logits(head, features, labels)
        theta = angles(features, weights_of(head))
        cosines, target = np.cos(theta), np.cos(np.clip(of_target(theta, labels) + 0.5, 0, np.pi))
        progress = 0.6 * progress + 0.4 * of_target(cosines, labels).mean()
        hard = cosines > target[:, np.newaxis]
        assert hard.any() and not hard.all()
        modulated = np.where(hard, cosines * (progress + cosines), cosines)
        np.testing.assert_allclose(got, SCALE * with_target(modulated, labels, target), atol=1e-3)
    assert head.progress.numpy() == pytest.approx(progress, abs=1e-5)


def test_adaface_goes_from_arcface_to_an_additive_margin_as_embeddings_grow_long():
    head, kept = heads.AdaFace(CLASSES, SCALE, 0.4, options={"momentum": 0.7}), None
    for seed in range(3):
        features, labels = batch(seed)
        features[0] *= 20.0
        got = logits(head, features, labels)
        lengths = np.linalg.norm(features, axis=1)
        now = np.array([lengths.mean(), lengths.std()])
        kept = now if kept is None else 0.7 * kept + 0.3 * now
        z = np.clip((lengths - kept[0]) / (kept[1] / 0.333 + 1e-3), -1, 1)
        theta = angles(features, weights_of(head))
        target = np.cos(np.clip(of_target(theta, labels) - 0.4 * z, 0, np.pi)) - 0.4 * (z + 1)
        np.testing.assert_allclose(got, SCALE * with_target(np.cos(theta), labels, target), atol=1e-3)


def test_magface_has_a_margin_and_a_reward_that_grow_with_the_length():
    options = {"upper_margin": 0.9, "least_length": 3.0, "most_length": 12.0, "length_weight": 5.0}
    head, (features, labels) = heads.MagFace(CLASSES, SCALE, 0.2, options=options), batch()
    features[0], features[1] = 100.0 * features[0], 0.01 * features[1]
    got = logits(head, features, labels)
    length = np.clip(np.linalg.norm(features, axis=1), 3.0, 12.0)
    theta = angles(features, weights_of(head))
    margin = 0.2 + (0.9 - 0.2) * (length - 3.0) / (12.0 - 3.0)
    target = np.cos(np.clip(of_target(theta, labels) + margin, 0, np.pi))
    np.testing.assert_allclose(got, SCALE * with_target(np.cos(theta), labels, target), atol=1e-3)
    [reward] = head.losses
    assert reward.numpy() == pytest.approx(5.0 * np.mean(length / 144.0 + 1.0 / length), rel=1e-5)


@pytest.mark.parametrize("kind", ["curricularface", "adaface"])
def test_one_row_that_overflowed_does_not_stay_in_what_a_head_follows(kind):
    head, (features, labels) = heads.HEADS[kind](CLASSES, SCALE, 0.3), batch()
    broken = features.copy()
    broken[2] = np.inf
    logits(head, broken, labels)
    assert np.isfinite(logits(head, features, labels)).all()


def test_magface_rewards_longer_embeddings_through_their_gradient():
    head, (features, labels) = heads.MagFace(CLASSES, SCALE, 0.2), batch()
    features = tf.constant(20.0 * features / np.linalg.norm(features, axis=1, keepdims=True), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        head((features, tf.constant(labels)), training=True)
        [reward] = head.losses
    gradient = tape.gradient(reward, features)
    assert (tf.reduce_sum(gradient * features, axis=1).numpy() < 0).all()


def test_a_triplet_head_answers_unit_embeddings_and_has_no_weights():
    head, (features, labels) = heads.Triplet(CLASSES, margin=0.2), batch()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(logits(head, features, labels), unit, atol=1e-5)
    assert not head.weights


@pytest.mark.parametrize("kind", [name for name, head in heads.HEADS.items() if head.CLOUD_FORMS])
def test_every_margin_head_takes_a_cloud(kind):
    made = heads.HEADS[kind]
    counts, (features, labels) = [20, 20] + 5 * [3], batch(rows=32)
    pair = []
    for cloud in (None, feature_cloud.FeatureCloud(counts, variant="full")):
        head = made(CLASSES, SCALE, max(0.2, made.MARGINS[0]), cloud, counts=counts)
        head.build([(None, DIMENSION), (None,)])
        pair.append(head)
    plain, leap = pair
    leap.prototypes.assign(plain.prototypes)
    logits(leap, features, labels), logits(plain, features, labels)  # from the second batch on variances are known
    assert np.abs(logits(leap, features, labels) - logits(plain, features, labels)).max() > 0.1


@pytest.mark.parametrize("kind", ["curricularface", "adaface"])
def test_adaptive_state_is_that_of_the_whole_batch_on_every_replica(kind, two_replicas):
    features, labels = batch(rows=8)
    single = heads.HEADS[kind](CLASSES, SCALE, 0.3)
    logits(single, features, labels)
    with two_replicas.scope():
        head = heads.HEADS[kind](CLASSES, SCALE, 0.3)
        head.build([(None, DIMENSION), (None,)])
        head.prototypes.assign(single.prototypes)

    @tf.function
    def step():
        def replica():
            half = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = slice(4 * half, 4 * half + 4)
            head((tf.constant(features, tf.float32)[rows], tf.constant(labels)[rows]), training=True)

        two_replicas.run(replica)

    step()
    np.testing.assert_allclose(head.weights[-1].numpy(), single.weights[-1].numpy(), rtol=1e-5)

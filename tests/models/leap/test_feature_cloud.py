"""FeatureCloud: who gets a cloud, how wide, and when."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models.leap import cloud_noise
from longtail.models.leap import feature_cloud

COUNTS = [20, 20, 3, 3]


def fed(steps=30, spread=(0.5, 0.5, 0.1, 0.9), **settings):
    """A cloud whose memory has seen classes of the given spreads."""
    rng = np.random.default_rng(0)
    cloud = feature_cloud.FeatureCloud(COUNTS, angle_order="before", centre_momentum=0.9, **settings)
    centres = np.eye(4, 8) * 2
    for _ in range(steps):
        labels = rng.integers(0, 4, 16)
        noise = rng.normal(size=(16, 8)) * np.array(spread)[labels, None]
        cloud(tf.constant(centres[labels] + noise, tf.float32), tf.constant(labels))
    return cloud


def narrow(count):
    """Features of class 2 right at its centre, which leave it as narrow as it was."""
    return tf.tile(tf.constant([[0.0, 0, 2, 0, 0, 0, 0, 0]]), [count, 1])


def widths(cloud):
    labels = tf.range(4, dtype=tf.int64)
    variance, known = cloud.memory.variance(labels)
    return cloud._width(tf.cast(variance, tf.float32), known, labels).numpy(), variance.numpy()


def test_vanilla_gives_tail_classes_what_the_head_has_more():
    cloud = fed(variant="vanilla")
    width, variance = widths(cloud)
    wanted = variance[:2].mean()
    expected = [0.0, 0.0, *np.sqrt(np.maximum(wanted - variance[2:], 0.0))]
    np.testing.assert_allclose(width, expected, rtol=1e-4, atol=1e-6)
    assert width[2] > 0.0 and width[3] == 0.0  # narrow tail gets a cloud, wide tail none


def test_full_gives_every_class_below_the_pooled_variance_a_cloud():
    cloud = fed(variant="full")
    width, variance = widths(cloud)
    weights = np.array(COUNTS) - 1
    pooled = (weights * variance).sum() / weights.sum()
    np.testing.assert_allclose(width, np.sqrt(np.maximum(pooled - variance, 0.0)), rtol=1e-4, atol=1e-5)


def test_alpha_is_drawn_for_each_sample_and_class():
    cloud = fed(variant="vanilla")
    alpha = cloud(narrow(64), tf.fill([64], 2)).numpy()
    assert alpha.shape == (64, 4)
    assert len(np.unique(alpha)) == alpha.size


def test_alpha_is_normal_with_the_width_of_the_class():
    from scipy import stats

    cloud = fed(variant="vanilla")
    alpha = cloud(narrow(4000), tf.fill([4000], 2)).numpy()
    width = widths(cloud)[0][2]
    assert stats.kstest(alpha.ravel() / width, "norm").pvalue > 1e-3


def test_cloud_is_off_before_its_start_while_the_memory_fills():
    cloud = fed(variant="vanilla", steps=5, start_step=6)
    alpha = cloud(narrow(4), tf.fill([4], 2))
    assert not alpha.numpy().any()
    assert cloud.memory.seen.numpy().sum() == 84
    assert cloud(narrow(4), tf.fill([4], 2)).numpy().any()


def test_draws_are_a_function_of_seed_and_step():
    first, second = fed(variant="full", seed=3), fed(variant="full", seed=3)
    batch, labels = tf.ones([4, 8]), tf.constant([0, 1, 2, 3])
    a, b = first(batch, labels).numpy(), second(batch, labels).numpy()
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, first(batch, labels).numpy())


def test_alpha_of_call_is_width_times_the_draw_of_spread():
    cloud, twin = fed(variant="vanilla"), fed(variant="vanilla")
    alpha = cloud(narrow(6), tf.fill([6], 2)).numpy()
    width, keys = twin.spread(narrow(6), tf.fill([6], 2))
    for label in range(4):
        drawn = cloud_noise.draw(keys, tf.fill([6], tf.constant(label, tf.uint32)))
        np.testing.assert_allclose(alpha[:, label], width * drawn, rtol=1e-6)


def test_replicas_draw_differently():
    strategy = tf.distribute.MirroredStrategy(tf.config.list_logical_devices("CPU")[:2])
    cloud = feature_cloud.FeatureCloud(COUNTS)
    step = tf.function(lambda: strategy.run(lambda: cloud._keys(50, tf.constant(3, tf.int64))))
    first, second = (keys.numpy() for keys in strategy.experimental_local_results(step()))
    assert not np.isin(first, second).any()


def test_state_is_that_of_the_memory_and_a_step_whatever_the_draws_need():
    cloud = fed(variant="full", steps=1)
    assert len(cloud.weights) == len(cloud.memory.weights) + 1


def test_width_is_read_anew_only_every_n_steps():
    cloud = fed(variant="full", steps=1, refresh_every=5)
    labels = tf.constant([0, 1, 2, 3] * 4)
    snapshots = []
    for _ in range(10):
        cloud(tf.random.normal([16, 8]), labels)
        snapshots.append(cloud.snapshot.numpy())
    changed = [not np.array_equal(a, b) for a, b in zip(snapshots, snapshots[1:], strict=False)]
    assert [step for step, is_new in enumerate(changed) if is_new] == [3, 8]


def test_vanilla_without_a_head_class_is_refused():
    with pytest.raises(errors.UsageError, match="largest K_i=4"):
        feature_cloud.FeatureCloud([4, 4, 2], variant="vanilla", head_threshold=10)


@pytest.mark.parametrize(
    "settings", [{"variant": "half"}, {"variant": "none"}, {"start_step": -1}, {"refresh_every": 0}]
)
def test_bad_arguments_say_what_they_received(settings):
    ((name, value),) = settings.items()
    with pytest.raises(errors.UsageError, match=f"{name}.* must be .*, not {value!r}"):
        feature_cloud.FeatureCloud(COUNTS, **settings)

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


def made(**settings):
    cloud = feature_cloud.FeatureCloud(COUNTS, **settings)
    cloud.build([None, 8])
    return cloud


def feed(cloud, features, labels):
    step = cloud.directions if cloud.form == "directional" else cloud.spread
    return step(tf.cast(features, tf.float32), tf.cast(labels, tf.int64))


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


@pytest.mark.parametrize("variant", ["full", "directional"])
def test_memory_and_centres_and_scatter_change_only_every_n_steps(variant):
    cloud = made(variant=variant, refresh_every=5)
    states = []
    for step in range(12):
        feed(cloud, np.random.default_rng(step).normal(size=(16, 8)), [0, 1, 2, 3] * 4)
        kept = [weight for layer in (cloud.memory, cloud.scatter) if layer is not None for weight in layer.weights]
        values = [weight[:-1] if weight is cloud.memory.angles else weight for weight in kept]  # but for the bin
        states.append(np.concatenate([value.numpy().ravel() for value in values]))
    changed = [not np.array_equal(a, b) for a, b in zip(states, states[1:], strict=False)]
    assert [step for step, is_new in enumerate(changed, start=1) if is_new] == [5, 10]
    assert cloud.memory.seen.numpy().tolist() == [12] * 4


def test_draws_still_change_every_step_where_the_memory_does_not():
    cloud = fed(variant="full", steps=1, refresh_every=50)
    cloud.memory.seen.assign([3] * 4)
    cloud.memory.squares.assign([9.0, 9.0, 0.0, 9.0])
    cloud.memory.recompute()
    cloud.memory.totals.assign([1.0, 1.0, 1.0, 1.0])
    first, second = (cloud(narrow(4), tf.fill([4], 2)).numpy() for _ in range(2))
    assert first.any() and not np.array_equal(first, second)


@pytest.mark.parametrize("variant", ["vanilla", "noise_head"])
def test_what_needs_a_head_class_is_refused_without_one(variant):
    with pytest.raises(errors.UsageError, match="largest K_i=4"):
        feature_cloud.FeatureCloud([4, 4, 2], variant=variant, head_threshold=10)


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [("noise_all", [0.3] * 4), ("noise_tail", [0, 0, 0.3, 0.3]), ("noise_head", [0.3, 0.3, 0, 0])],
)
def test_a_control_has_its_given_width_from_the_start_on_the_classes_it_names(variant, wanted):
    cloud = made(variant=variant, width=0.3, start_step=1)
    labels = np.arange(4).repeat(4000)
    assert not cloud(tf.ones([4, 8]), tf.range(4)).numpy().any()
    alpha = cloud(tf.ones([16000, 8]), tf.constant(labels)).numpy()
    np.testing.assert_allclose([alpha[labels == label].std() for label in range(4)], wanted, rtol=0.02)
    np.testing.assert_allclose(cloud.widths(), wanted, rtol=1e-6)


def test_a_control_draws_what_leap_draws():
    noise = made(variant="noise_all", width=0.3, seed=7)
    leap = made(variant="vanilla", seed=7)
    (width, keys), (_, same) = noise.spread(narrow(5), tf.fill([5], 2)), leap.spread(narrow(5), tf.fill([5], 2))
    np.testing.assert_array_equal(keys, same)
    np.testing.assert_allclose(width, 0.3, rtol=1e-6)


def test_draws_and_shuffles_of_a_step_and_an_epoch_of_the_same_number_are_made_of_other_words():
    for first in (5, 5 + 2**32, 6):  # the shuffle's, that of groups, and augmentation's, at epoch or step 3
        cloud = made(seed=5)
        words = tf.random.stateless_uniform([64, 3], tf.constant([first, 3], tf.int64), None, None, tf.int32)
        assert not np.isin(cloud._keys(64, tf.constant(3, tf.int64)), words.numpy().view(np.uint32)).any()


@pytest.mark.parametrize("total_steps, wanted", [(0, [0, 0, 5, 5, 5]), (8, [0, 0, 1.25, 2.5, 3.75])])
def test_a_directional_cloud_rises_over_half_of_training(total_steps, wanted):
    settings = {"start_step": 2, "total_steps": total_steps, "strength": 5.0}
    cloud = made(variant="directional", **settings)
    found = [cloud.directions(tf.ones([4, 8]), tf.range(4))[0].numpy() for _ in range(5)]
    np.testing.assert_allclose(found, np.transpose([wanted] * 4))


def test_a_directional_cloud_is_as_strong_as_its_class_is_small():
    cloud = made(variant="directional", strength=6.0, size_power=0.5)
    for features in (tf.eye(4, 8), tf.eye(4, 8)[::-1]):
        strength, _ = cloud.directions(features, tf.constant([0, 2, 3, 1]))
    wanted = 6.0 * np.sqrt([3 / 20, 1, 1, 3 / 20])
    np.testing.assert_allclose(strength, wanted, rtol=1e-6)
    widths = cloud.widths().numpy()
    trace = np.square(cloud.scatter.root()).sum()
    np.testing.assert_allclose(widths, np.sqrt(wanted[[0, 3, 1, 2]] * trace / 7), rtol=1e-5)


CLOUDS = {
    "noise_all": {"variant": "noise_all"},
    "closed": {"variant": "full", "form": "closed"},
    "corrected": {"variant": "full", "statistics": "corrected"},
    "every third step": {"variant": "vanilla", "refresh_every": 3},
    "directional": {"variant": "directional", "total_steps": 10, "size_power": 0.5},
}


def batches(steps):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(8, 8)), rng.integers(0, 4, 8)) for _ in range(steps)]


@pytest.mark.parametrize("name", CLOUDS)
def test_a_cloud_restored_in_its_middle_goes_on_to_the_bit(name, tmp_path):
    cloud, restored = (made(**CLOUDS[name]) for _ in range(2))
    history = batches(12)
    for batch in history[:7]:
        feed(cloud, *batch)
    path = tf.train.Checkpoint(cloud=cloud).save(str(tmp_path / "c"))
    tf.train.Checkpoint(cloud=restored).restore(path).assert_consumed()
    for batch in history[7:]:
        for one, two in zip(feed(cloud, *batch), feed(restored, *batch), strict=True):
            np.testing.assert_array_equal(one, two)
    for one, two in zip(cloud.weights, restored.weights, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", CLOUDS)
def test_two_replicas_hold_the_state_of_one_device_that_saw_the_whole_batch(name, two_replicas):
    single = made(**CLOUDS[name])
    with two_replicas.scope():
        mirrored = made(**CLOUDS[name])

    @tf.function
    def step(features, labels):
        def replica():
            half = tf.distribute.get_replica_context().replica_id_in_sync_group
            feed(mirrored, features[4 * half : 4 * half + 4], labels[4 * half : 4 * half + 4])

        two_replicas.run(replica)

    for features, labels in batches(7):
        step(tf.constant(features, tf.float32), tf.constant(labels))
        feed(single, features, labels)
    for one, two in zip(single.weights, mirrored.weights, strict=True):
        if "samples_with_cloud" in one.name or one.name in ("total:0", "count:0"):
            continue  # a metric, which adds up over the replicas when it is read
        for copy in two_replicas.experimental_local_results(two):
            np.testing.assert_allclose(copy.numpy(), one.numpy(), rtol=1e-5, atol=1e-6, err_msg=one.name)


@pytest.mark.parametrize("name", CLOUDS)
def test_config_makes_the_same_cloud_again(name):
    cloud = made(width=0.3, strength=2.0, rank=3, **{"size_power": 1.0, **CLOUDS[name]})
    again = feature_cloud.FeatureCloud.from_config(cloud.get_config())
    assert again.get_config() == cloud.get_config() and again.rank == 3
    assert again.size_power == cloud.size_power > 0


@pytest.mark.parametrize(
    "settings",
    [
        *({"variant": "half"}, {"variant": "none"}, {"start_step": -1}, {"total_steps": -1}, {"refresh_every": 0}),
        *({"form": "open"}, {"width": -0.1}, {"strength": -1.0}, {"size_power": 5.0}, {"statistics": "exact"}),
    ],
)
def test_bad_arguments_say_what_they_received(settings):
    ((name, value),) = settings.items()
    with pytest.raises(errors.UsageError, match=f"{name}.* must be .*, not {value!r}"):
        feature_cloud.FeatureCloud(COUNTS, **settings)

"""AngleMemory against a naive NumPy memory, and on inputs that break careless code."""

import collections

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models.leap import angle_memory


class NaiveMemory:
    """Eq. 3 to 5 as written, one list a class, statistics over the list."""

    def __init__(self, counts, images_kept, gamma):
        self.memory = [collections.deque(maxlen=count * images_kept) for count in counts]
        self.centres: dict[int, np.ndarray] = {}
        self.gamma = gamma

    def update(self, features, labels):
        features = features.astype(np.float64)
        for label in set(labels.tolist()):
            mean = features[labels == label].mean(axis=0)
            before = self.centres.get(label)
            self.centres[label] = mean if before is None else (1 - self.gamma) * mean + self.gamma * before
        for feature, label in zip(features, labels, strict=True):
            centre = self.centres[label]
            cosine = feature @ centre / np.linalg.norm(feature) / np.linalg.norm(centre)
            self.memory[label].append(np.arccos(np.clip(cosine, -1, 1)))

    def variances(self):
        return [np.var(memory, ddof=1) if len(memory) > 1 else None for memory in self.memory]


def make(counts, **settings):
    layer = angle_memory.AngleMemory(counts, **settings)
    layer.build([None, 8])
    return layer


def assert_same_statistics(layer, naive, tolerance=1e-5):
    everyone = tf.range(len(naive.memory), dtype=tf.int64)
    variance, known = (t.numpy() for t in layer.variance(everyone))
    expected = naive.variances()
    assert known.tolist() == [value is not None for value in expected]
    for value, wanted in zip(variance, expected, strict=True):
        assert wanted is None or abs(value - wanted) < tolerance


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    counts=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    images_kept=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_running_sums_equal_the_naive_statistics_after_eviction(counts, images_kept, seed):
    rng = np.random.default_rng(seed)
    layer, naive = make(counts, images_kept=images_kept), NaiveMemory(counts, images_kept, 0.1)
    for _ in range(12):
        labels = rng.integers(0, len(counts), 9)  # more rows of a class than its memory holds, now and then
        features = rng.normal(size=(9, 8)).astype(np.float32)
        layer(tf.constant(features), tf.constant(labels))
        naive.update(features, labels)
    assert_same_statistics(layer, naive)


def test_a_long_history_leaves_no_drift_in_the_sums():
    rng = np.random.default_rng(0)
    layer = make([4, 30], images_kept=3)
    step = tf.function(layer)
    base = rng.normal(size=(2, 8))
    for _ in range(3000):
        labels = rng.integers(0, 2, 16)
        features = base[labels] + 0.01 * rng.normal(size=(16, 8))
        step(tf.constant(features, tf.float32), tf.constant(labels))
    running = [layer.variance(tf.constant([0, 1], tf.int64))[0].numpy(), layer.totals.numpy()]
    layer.recompute()
    exact = [layer.variance(tf.constant([0, 1], tf.int64))[0].numpy(), layer.totals.numpy()]
    np.testing.assert_allclose(running[0], exact[0], rtol=1e-9)
    np.testing.assert_allclose(running[1], exact[1], rtol=1e-9)


def test_totals_are_equation_6_and_equation_9():
    rng = np.random.default_rng(1)
    counts = [20, 15, 3, 2, 1]
    layer = make(counts, head_threshold=10)
    for _ in range(40):
        layer(tf.constant(rng.normal(size=(8, 8)), tf.float32), tf.constant(rng.integers(0, 5, 8)))
    variance = layer.variance(tf.range(5, dtype=tf.int64))[0].numpy()
    weights = np.array(counts) - 1
    assert layer.pooled_variance().numpy() == pytest.approx((weights * variance).sum() / weights.sum(), rel=1e-5)
    assert layer.head_variance().numpy() == pytest.approx(variance[:2].mean(), rel=1e-5)


def test_a_class_of_one_image_with_one_angle_has_no_variance():
    layer = make([1, 5], images_kept=1)
    _, known = layer(tf.ones([3, 8]), tf.constant([0, 0, 0]))
    assert not known.numpy().any()


def test_a_class_never_seen_has_no_variance_and_adds_nothing():
    layer = make([5, 5])
    layer(tf.random.normal([4, 8]), tf.constant([0, 0, 0, 0]))
    variance, known = layer.variance(tf.constant([1], tf.int64))
    assert not known.numpy()[0] and variance.numpy()[0] == 0.0


def test_first_centre_is_the_batch_mean_and_later_ones_move_by_equation_4():
    layer = make([5, 5], centre_momentum=0.1)
    layer(tf.fill([2, 8], 1.0), tf.constant([0, 0]))
    np.testing.assert_allclose(layer.centres.numpy()[0], 1.0)
    layer(tf.fill([1, 8], 2.0), tf.constant([0]))
    np.testing.assert_allclose(layer.centres.numpy()[0], 0.9 * 2.0 + 0.1 * 1.0, rtol=1e-6)


def test_angle_before_the_update_is_taken_to_the_previous_centre():
    layer = make([5, 5], angle_order="before")
    first, second = np.eye(8, dtype=np.float32)[:2]
    layer(tf.constant([first]), tf.constant([0]))
    layer(tf.constant([second]), tf.constant([0]))
    assert layer.angles.numpy()[1] == pytest.approx(np.pi / 2, abs=1e-6)


def test_zero_huge_and_infinite_features_leave_finite_state():
    layer = make([3, 3])
    layer(tf.zeros([2, 8]), tf.constant([0, 1]))
    layer(tf.fill([2, 8], tf.constant(6e4, tf.float16)), tf.constant([0, 1]))
    layer(tf.constant([[np.inf] * 8, [np.nan] * 8]), tf.constant([0, 1]))
    for weight in layer.weights:
        assert np.isfinite(weight.numpy()).all(), weight.name


def test_angles_are_float32_and_exact_near_zero_for_half_precision_features():
    a = tf.constant([[1.0, 1e-4]], tf.float32)
    assert angle_memory.angle_between(a, tf.constant([[1.0, 0.0]])).numpy()[0] == pytest.approx(1e-4, rel=1e-3)


def test_flat_storage_costs_the_sum_of_the_memories():
    layer = make([100, 2, 2], images_kept=3)
    assert layer.angles.shape == [3 * 104 + 1]


def test_two_replicas_hold_the_state_of_one_device_that_saw_the_whole_batch(two_replicas):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 3, size=(3, 8))
    strategy = two_replicas
    with strategy.scope():
        mirrored = make([6, 4, 2])
    single = make([6, 4, 2])

    @tf.function
    def step(batch, ids):
        strategy.run(mirrored, args=(batch, ids))

    def share(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(np.split(array, 2)[context.replica_id_in_sync_group])
        )

    for batch, ids in zip(features, labels, strict=True):
        step(share(batch), share(ids))
        single(tf.constant(batch), tf.constant(ids))
    for one, two in zip(single.weights, mirrored.weights, strict=True):
        for copy in strategy.experimental_local_results(two):
            np.testing.assert_allclose(copy.numpy(), one.numpy(), rtol=1e-6, atol=1e-7, err_msg=one.name)


def test_state_is_restored_exactly_from_a_checkpoint(tmp_path):
    layer, other = make([3, 3]), make([3, 3])
    layer(tf.random.normal([6, 8]), tf.constant([0, 1, 0, 1, 1, 1]))
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "c"))
    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()
    for one, two in zip(layer.weights, other.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_statistics_equal_the_naive_ones_to_1e_5_after_a_hundred_thousand_updates():
    rng = np.random.default_rng(3)
    counts = [1, 2, 4, 30, 60]
    layer, naive = make(counts, images_kept=3), NaiveMemory(counts, 3, 0.1)
    step = tf.function(layer)
    base = rng.normal(size=(5, 8))
    for _ in range(400):
        labels = rng.choice(5, 250, p=[0.05, 0.1, 0.15, 0.3, 0.4])  # far more rows of a class than it keeps
        features = (base[labels] + 0.1 * rng.normal(size=(250, 8))).astype(np.float32)
        step(tf.constant(features), tf.constant(labels))
        naive.update(features, labels)
    assert layer.seen.numpy().sum() == 100_000
    assert_same_statistics(layer, naive, 1e-5)


def test_recompute_makes_the_exact_statistics_from_whatever_the_sums_had_become():
    rng = np.random.default_rng(4)
    counts = [12, 3, 1, 2]
    layer, naive = make(counts), NaiveMemory(counts, 3, 0.1)
    for _ in range(10):
        features, labels = rng.normal(size=(6, 8)).astype(np.float32), rng.integers(0, 3, 6)
        layer(tf.constant(features), tf.constant(labels))
        naive.update(features, labels)
    totals = layer.totals.numpy()
    for state in (layer.sums, layer.squares, layer.totals):
        state.assign(tf.fill(state.shape, tf.constant(7.0, tf.float64)))
    layer.recompute()
    assert_same_statistics(layer, naive)
    np.testing.assert_allclose(layer.totals.numpy(), totals, rtol=1e-9)


def test_a_history_restored_in_its_middle_goes_on_to_the_bit(tmp_path):
    rng = np.random.default_rng(5)
    counts = [5, 2, 1]
    layer, restored, naive = make(counts), make(counts), NaiveMemory(counts, 3, 0.1)
    for number in range(20):
        features, labels = rng.normal(size=(7, 8)).astype(np.float32), rng.integers(0, 3, 7)
        layer(tf.constant(features), tf.constant(labels))
        naive.update(features, labels)
        if number == 9:
            path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "c"))
            tf.train.Checkpoint(layer=restored).restore(path).assert_consumed()
        elif number > 9:
            restored(tf.constant(features), tf.constant(labels))
    for one, two in zip(layer.weights, restored.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())
    assert_same_statistics(restored, naive)


def test_state_is_the_sum_of_the_memories_a_few_numbers_a_class_and_the_centres():
    layer = make([100, 2, 2], images_kept=3)
    measured = sum(weight.numpy().nbytes for weight in layer.weights)
    assert measured == 4 * (3 * 104) + 3 * (24 + 4 * 8) + 36


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": [3, 0]}, "every K_i >= 1"),
        ({"counts": [3]}, "C >= 2"),
        ({"counts": [3, 3], "images_kept": 0}, "leap.images_kept must be a whole number from 1 to .*, not 0"),
        ({"counts": [3, 3], "centre_momentum": 1.4}, "leap.centre_momentum must be .*, not 1.4"),
        ({"counts": [3, 3], "angle_order": "during"}, "leap.angle_order must be one of after, before, not 'during'"),
    ],
)
def test_bad_arguments_say_what_they_received(settings, message):
    with pytest.raises(errors.UsageError, match=message):
        angle_memory.AngleMemory(**settings)


def test_config_makes_the_same_layer_again():
    layer = angle_memory.AngleMemory([3, 4], images_kept=2, centre_momentum=0.9, angle_order="before")
    again = angle_memory.AngleMemory.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()

"""A memory's angles taken out and put into another: it then goes on as the first would have."""

import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from longtail.models.leap import angle_memory
from longtail.models.leap import kept_angles


def filled(counts, batches, memory=None):
    memory = memory or angle_memory.AngleMemory(counts, images_kept=2, angle_order="before")
    for features, labels in batches:
        memory(tf.constant(features, tf.float32), labels=tf.constant(labels))
    return memory


def batches(seed, number):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(5, 3)), rng.integers(0, 3, 5)) for _ in range(number)]


@hypothesis.given(st.lists(st.integers(1, 4), min_size=3, max_size=3), st.integers(1, 6), st.integers(0, 99))
@hypothesis.settings(max_examples=15)
def test_a_memory_goes_on_in_another_as_it_would_have(counts, before, seed):
    one = filled(counts, batches(seed, before))
    other = angle_memory.AngleMemory(counts, images_kept=2, angle_order="before")
    other.build([None, 3])
    other.centres.assign(one.centres)
    kept_angles.put(other, kept_angles.take(one), np.arange(3))
    for memory in (one, other):
        filled(counts, batches(seed + 1, 3), memory)
    kept, expected = kept_angles.take(other), kept_angles.take(one)
    np.testing.assert_array_equal(kept.counts, expected.counts)
    np.testing.assert_array_equal(kept.angles, expected.angles)
    everyone = tf.range(3, dtype=tf.int64)
    np.testing.assert_allclose(other.variance(everyone)[0], one.variance(everyone)[0], atol=1e-9)
    np.testing.assert_allclose(other.totals, one.totals, atol=1e-9)


def test_classes_change_places_and_a_smaller_memory_keeps_the_newest():
    kept = kept_angles.Kept(np.arange(6, dtype=np.float32), np.array([4, 0, 2]))
    memory = angle_memory.AngleMemory([5, 1, 1], images_kept=2)
    memory.build([None, 3])
    kept_angles.put(memory, kept, np.array([2, 0, -1]))
    again = kept_angles.take(memory)
    assert again.counts.tolist() == [2, 2, 0] and again.angles.tolist() == [4.0, 5.0, 2.0, 3.0]

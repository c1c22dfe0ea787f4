"""The images of a training: what is decoded once, and in which order they come."""

import dataclasses

import numpy as np
import tensorflow as tf

from longtail.models import config
from longtail.models.training import data as training_data

SIDE = 32
CLASS_IDS = np.repeat([0, 1], 128)


def image(encoded):
    """Stands for decoding: grey images of zeros, all of them readable."""
    rows = tf.size(encoded)
    return tf.zeros([rows, SIDE, SIDE, 1]), tf.zeros([rows], tf.int32)


def labels_of_an_epoch(class_ids, **training):
    settings = config.TrainConfig(training=config.Training(batch=256, epochs=1, **training))
    data = training_data.TrainingSet(np.full(len(class_ids), b"x", object), class_ids, np.bincount(class_ids))
    dataset, steps = training_data.batches(data, image, settings)
    return np.concatenate([labels.numpy() for _, labels in dataset.take(steps)])


def test_groups_of_an_identity_are_shuffled_by_other_draws_than_its_images():
    # Ids in order and groups of one image: the same draws would give the same labels in the same order.
    plain, grouped = labels_of_an_epoch(CLASS_IDS), labels_of_an_epoch(CLASS_IDS, images_per_class=1)
    assert sorted(plain) == sorted(grouped) and (plain != grouped).any()


def test_images_that_just_fill_the_cache_are_decoded_once_and_one_more_is_not():
    settings = config.TrainConfig(training=config.Training(cache_megabytes=1))
    settings = dataclasses.replace(settings, model=config.Model(image=(SIDE, SIDE, 1)))
    for images, kept in ((256, True), (257, False)):  # 4 KiB each
        data = training_data.TrainingSet(np.full(images, b"x", object), np.zeros(images, np.int64), np.array([images]))
        assert (training_data.decoded(data, image, settings) is not None) == kept


def test_images_held_out_are_of_head_classes_alone_and_no_longer_counted():
    counts = [19, 12, 3, 1]  # the second is left a head class, with one image more than ten
    images = training_data.TrainingSet(np.arange(35).astype(object), np.repeat(range(4), counts), np.array(counts))
    settings = config.TrainConfig(leap=config.Leap(head_threshold=10), training=config.Training(held_out=5))
    kept, is_held = training_data.hold_out(images, settings)
    assert np.bincount(images.class_ids[is_held], minlength=4).tolist() == [5, 1, 0, 0]
    assert kept.counts.tolist() == np.bincount(kept.class_ids).tolist() == [14, 11, 3, 1]
    assert set(kept.encoded) | set(images.encoded[is_held]) == set(images.encoded)

"""What a training leaves for the analyses: a head of any kind answers there as it does in the training."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import errors
from longtail.models.feature_transfer import viewer
from longtail.models.training import classifier as classifier_lib
from tests.models.feature_transfer import test_alternation

NAMES = [f"class {label}" for label in range(5)]


def saved(folder, **head):
    """A classifier of untrained weights, and what is read of what it left."""
    plain = {"loss": {"metric_weight": 0.0, "reconstruction_weight": 0.0}, "transfer": {"variant": "none"}}
    config = test_alternation.config(head=head, **plain)
    data = test_alternation.data()
    classifier = classifier_lib.build_classifier(config, data.counts, steps_per_epoch=1)
    classifier((tf.zeros([2, *test_alternation.SHAPE]), tf.zeros([2], tf.int32)))
    viewer.save(classifier, config, data, test_alternation.DECODE, NAMES, str(folder))
    return classifier, viewer.load(str(folder))


@pytest.mark.parametrize("name", ["softmax", "l2_softmax", "cosface", "subcentre_arcface"])
def test_the_classifier_that_is_left_is_the_head(tmp_path, name):
    classifier, viewed = saved(tmp_path, name=name, scale=8.0, margin=0.0, options={})
    embedded = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    logits = classifier.head((tf.constant(embedded), tf.zeros([600], tf.int32))).numpy()
    np.testing.assert_allclose(viewed.run("classify", embedded), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(viewed.lengths, classifier.head.prototype_lengths(), rtol=1e-6)
    assert viewed.lengths.shape == (5,) and logits.shape == (600, 5)


def test_a_head_without_class_weights_leaves_none_and_is_told_of_where_one_is_asked_for(tmp_path):
    _, viewed = saved(tmp_path, name="triplet", scale=1.0, margin=0.2, options={})
    assert viewed.lengths.shape == (0,)
    with pytest.raises(errors.UsageError, match="^the run's head has no class weights; train it with one that has$"):
        viewed.run("classify", np.zeros([1, 8], np.float32))


def test_what_an_earlier_version_left_is_refused(tmp_path):
    saved(tmp_path, name="softmax", scale=1.0, margin=0.0, options={})
    arrays = dict(np.load(tmp_path / "known.npz"))
    arrays["prototypes"] = arrays.pop("lengths")
    np.savez(tmp_path / "known.npz", **arrays)
    with pytest.raises(errors.UsageError, match="of an earlier version; run the recipe again"):
        viewer.load(str(tmp_path))

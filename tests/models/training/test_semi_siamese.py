"""Semi-Siamese training: whose embeddings are prototypes, and how the network that makes them follows."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import loop
from longtail.models.training import warm_start
from tests.models.training import test_loop
from tests.models.training import test_warm_start
from tests.models.training.test_warm_start import start  # noqa: F401 - a fixture

PAIRS = {"gallery_momentum": 0.75, "images_per_class": 2}
LABELS = np.array([2, 2, 0, 0, 2, 2])


def built(**changes):
    settings = test_loop.config(**{"leap": test_loop.PLAIN, "training": PAIRS, **changes})
    return classifier_lib.build_classifier(settings, np.full(4, 8), 4)


def images(seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(6, *test_loop.SHAPE)), tf.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_images_class_has_the_gallerys_embedding_of_the_other_image_and_other_classes_what_was_shown_last():
    classifier = built(head={"name": "cosface", "scale": 8.0, "margin": 0.25})
    classifier.gallery.set_weights([weight + 0.01 for weight in classifier.gallery.get_weights()])
    prototypes = unit(classifier.head.prototypes.numpy().T)
    shown = unit(classifier.gallery(images(), training=False).numpy())
    features = unit(classifier.embedder(images(), training=True).numpy())
    found = classifier((images(), tf.constant(LABELS)), training=True).numpy()
    for probe, other in ((0, 1), (1, 0)):
        prototypes[2], prototypes[0] = unit((shown[other] + shown[4 + other])[None] / 2)[0], shown[2 + other]
        wanted = 8.0 * (features[probe::2] @ prototypes.T - 0.25 * np.eye(4)[LABELS[probe::2]])
        np.testing.assert_allclose(found[probe::2], wanted, atol=1e-4)


def test_neither_the_gallery_nor_prototypes_are_trained():
    classifier = built(model={"weight_decay": 0.1})
    trained = {id(weight) for weight in classifier.trainable_variables}
    assert trained == {id(weight) for weight in classifier.embedder.trainable_variables}
    assert len(classifier.losses) == len(built(model={"weight_decay": 0.1}, training={}).losses) - 1


def test_the_gallery_follows_the_embedder_after_each_step():
    classifier = built()
    classifier.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = classifier.gallery.get_weights()
    classifier.train_on_batch((images(), LABELS), LABELS)
    after, embedder = classifier.gallery.get_weights(), classifier.embedder.get_weights()
    assert any(np.abs(one - two).max() > 1e-4 for one, two in zip(before, embedder, strict=True))
    for one, two, three in zip(before, embedder, after, strict=True):
        np.testing.assert_allclose(three, 0.75 * one + 0.25 * two, atol=1e-6)


def test_it_learns_to_tell_classes_apart():
    losses = test_loop.Losses()
    settings = test_loop.config(leap=test_loop.PLAIN, training={**PAIRS, "epochs": 16})
    loop.train(settings, test_loop.data(), test_warm_start.DECODE, None, [losses])
    assert np.mean(losses.losses[-4:]) < 0.5 * np.mean(losses.losses[:4])


def test_a_gallery_begins_as_the_embedder_that_a_warm_start_carries(start):  # noqa: F811
    trained, folder = start
    settings = test_warm_start.settings_from(folder, training=PAIRS, leap=test_loop.PLAIN)
    warm = warm_start.find(settings, identities=test_warm_start.NAMES)
    found = classifier_lib.build_classifier(warm.config, np.full(4, 8), 4)
    warm.carry(found, test_loop.data(), test_warm_start.DECODE)
    np.testing.assert_array_equal(found.head.prototypes, trained.head.prototypes)
    for one, two in zip(found.gallery.get_weights(), trained.embedder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_in_mixed_precision_prototypes_stay_in_float32_and_finite():
    training = {**PAIRS, "precision": "mixed_float16", "epochs": 2}
    trained = loop.train(
        test_loop.config(leap=test_loop.PLAIN, training=training), test_loop.data(), test_warm_start.DECODE
    )
    assert trained.head.prototypes.dtype == tf.float32
    assert all(np.isfinite(weight.numpy()).all() for weight in trained.weights)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": {"gallery_momentum": 0.9}}, "goes with training.images_per_class of 2, .* they are 0, cosface"),
        ({"training": PAIRS, "head": {"name": "softmax", "margin": 0.0}}, "they are 2, softmax, none and none"),
        ({"training": PAIRS, "head": {"name": "magface"}}, "they are 2, magface, none and none"),
        ({"training": PAIRS, "leap": {"variant": "full"}}, "they are 2, cosface, full and none"),
        (
            {"training": PAIRS, "model": {"filter": True}, "transfer": {"variant": "transfer"}},
            "they are 2, cosface, none and transfer",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused_in_one_line(changes, told):
    transfer = config_lib.Transfer(**changes.pop("transfer", {}))
    settings = dataclasses.replace(test_loop.config(**{"leap": test_loop.PLAIN, **changes}), transfer=transfer)
    with pytest.raises(errors.UsageError, match=f"training.gallery_momentum: .*{told}"):
        loop.train(settings, test_loop.data(), test_warm_start.DECODE)


def test_several_devices_are_refused_in_one_line(two_replicas):
    settings = test_loop.config(leap=test_loop.PLAIN, training=PAIRS)
    with pytest.raises(errors.UsageError, match="training.gallery_momentum: .* runs on one device"):
        loop.train(settings, test_loop.data(), test_warm_start.DECODE, strategy=two_replicas)

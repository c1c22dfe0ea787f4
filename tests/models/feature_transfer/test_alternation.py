"""The stages in a training: what each leaves to the bit, how a killed one goes on, and what is refused."""

import contextlib
import dataclasses
import logging

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.feature_transfer import alternation
from longtail.models.feature_transfer import stages
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data
from longtail.models.training import loop
from tests.models.training import test_loop

SHAPE = (16, 16, 1)
DECODE = preprocess.Preprocess(SHAPE)
# Stage 0 has two epochs; 1 and 2 follow twice.
KILLED_IN = {"stage 0": 1, "the first stage 1": 2, "the first stage 2": 3, "the second stage 1": 4}


def data(head=2, tail=3, head_images=8, tail_images=3):
    """Head classes, then tail classes."""
    counts = np.array([head_images] * head + [tail_images] * tail)
    images = test_loop.data(classes=len(counts), per_class=max(head_images, tail_images))
    kept = np.concatenate([np.flatnonzero(images.class_ids == label)[:n] for label, n in enumerate(counts)])
    return training_data.TrainingSet(images.encoded[kept], images.class_ids[kept], counts)


def config(**changes):
    parts = {
        "model": config_lib.Model("conv4", image=SHAPE, dimension=8, filter=True, width=0.05),
        "head": config_lib.Head("softmax", 1.0, 0.0, {"bias": 0}),
        "loss": config_lib.Loss(metric_weight=0.25, reconstruction_weight=1.0),
        "leap": config_lib.Leap(head_threshold=5),
        "transfer": config_lib.Transfer("transfer", alternations=2, steps=3, rate=1e-3),
        "augment": config_lib.Augmentation(shift=0.05),
        "training": config_lib.Training(epochs=2, batch=8),
    }
    for key, change in changes.items():
        parts[key] = dataclasses.replace(parts[key], **change)
    return config_lib.TrainConfig(**parts)


@contextlib.contextmanager
def eagerly():
    """Steps run without being traced first, which takes longer than the few that a test is about."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture
def untraced():
    with eagerly():
        yield


ONCE = {"alternations": 1, "steps": 2}
NOT_DRAWN = {"reconstruction_weight": 0.0}


class Weights(tf.keras.callbacks.Callback):
    """Keeps each part's weights at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        embedder = self.model.embedder
        parts = {"encoder": embedder.encoder, "filter": embedder.filter, "head": self.model.head}
        parts["decoder"] = self.model.decoder
        self.kept.append({name: [w.numpy() for w in part.weights] for name, part in parts.items()})

    def changed(self, epoch):
        """The parts that an epoch changed."""
        before, after = self.kept[epoch - 1], self.kept[epoch]
        same = {name: all(map(np.array_equal, before[name], after[name])) for name in after}
        return {name for name, is_same in same.items() if not is_same}


@pytest.fixture(scope="module")
def trained():
    """A classifier after two epochs of stage 0 and two alternations, and its weights after each."""
    weights = Weights()
    return loop.train(config(), data(), DECODE, None, [weights]), weights


def test_stage_1_leaves_encoder_and_decoder_to_the_bit(trained):
    _, weights = trained
    assert weights.changed(2) == weights.changed(4) == {"filter", "head"}


def test_stage_2_leaves_the_head_to_the_bit(trained):
    _, weights = trained
    assert weights.changed(3) == weights.changed(5) == {"encoder", "filter", "decoder"}


def test_crt_trains_the_head_alone(untraced):
    weights = Weights()
    loop.train(config(transfer={"variant": "crt"}), data(), DECODE, None, [weights])
    assert len(weights.kept) == 4
    assert weights.changed(2) == weights.changed(3) == {"head"}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A whole training, and what each that was killed in a stage left behind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    kills = [test_loop.Killed(epoch, folder / "whole", folder / str(epoch)) for epoch in KILLED_IN.values()]
    settings = config(transfer={"variant": "random", "joined": True})
    with eagerly():
        yield settings, loop.train(settings, data(), DECODE, str(folder / "whole"), kills), folder


@pytest.mark.parametrize("epoch", KILLED_IN.values(), ids=KILLED_IN)
def test_a_training_killed_in_any_stage_ends_as_the_uninterrupted_one_to_the_bit(killed, epoch):
    settings, whole, folder = killed
    resumed = loop.train(settings, data(), DECODE, str(folder / str(epoch)))
    for one, other in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(one, other, one.name)


@pytest.fixture(scope="module")
def plain():
    """The prototypes of a training of one alternation, and what it said."""
    said, handler = [], logging.Handler(logging.INFO)
    handler.emit = lambda record: said.append(record.getMessage())
    log, level = logging.getLogger("longtail"), logging.getLogger("longtail").level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    with eagerly():
        trained = loop.train(config(transfer=ONCE, loss=NOT_DRAWN), data(), DECODE)
    log.removeHandler(handler)
    log.setLevel(level)
    return trained.head.prototypes.numpy(), said


@pytest.mark.parametrize(
    "change", [{"variant": "untransferred"}, {"variant": "random"}, {"joined": True}, {"energy": 0.3}]
)
def test_each_setting_of_a_transfer_reaches_the_training(plain, untraced, change):
    changed = loop.train(config(transfer={**ONCE, **change}, loss=NOT_DRAWN), data(), DECODE)
    assert not np.array_equal(changed.head.prototypes, plain[0])


@pytest.mark.parametrize("variant", ["transfer", "random", "untransferred"])
def test_the_third_batch_is_of_tail_classes_at_what_is_made_for_them(variant, untraced):
    settings, images = config(transfer={"variant": variant}, loss=NOT_DRAWN), data()
    classifier = classifier_lib.build_classifier(settings, images.counts, steps_per_epoch=1)
    classifier((tf.zeros([2, *SHAPE]), tf.zeros([2], tf.int32)))
    steps = stages.Stages(classifier, settings, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    size = classifier.embedder.encoder.output_shape[1]
    centres, basis = rng.normal(size=(5, size)), np.linalg.qr(rng.normal(size=(size, 3)))[0]
    steps.known(centres, basis)
    rich, labels = rng.normal(size=(6, size)), np.array([0, 1, 2, 3, 4, 4])
    head, tail, more = ((tf.constant(rich[i : i + 2], tf.float32), tf.constant(labels[i : i + 2])) for i in (0, 2, 4))
    made, its = steps._third(head, tail, more, tf.constant([0, 0], tf.int64))
    np.testing.assert_array_equal(its, [4, 4] if variant == "untransferred" else [2, 3])
    moved = (rich[:2] - centres[:2]) @ basis @ basis.T
    if variant == "random":
        lengths = np.linalg.norm(made - centres[2:4], axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(moved, axis=1), rtol=1e-4)
    else:
        np.testing.assert_allclose(made, rich[4:] if variant == "untransferred" else centres[2:4] + moved, atol=1e-4)


def test_a_step_of_stage_1_is_the_mean_cross_entropy_and_m_l2_of_its_batches_in_float64(untraced):
    settings, images = config(loss=NOT_DRAWN), data()
    classifier = classifier_lib.build_classifier(settings, images.counts, steps_per_epoch=1)
    classifier((tf.zeros([2, *SHAPE]), tf.zeros([2], tf.int32)))
    steps = stages.Stages(classifier, settings, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rich = np.random.default_rng(0).normal(size=(4, classifier.embedder.encoder.output_shape[1])).astype(np.float32)
    labels = np.array([0, 1, 2, 3])
    features = classifier.embedder.filter(rich, training=False).numpy().astype(np.float64)
    logits = features @ classifier.head.prototypes.numpy()
    entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
    wanted = entropy.mean() + 0.25 * np.square(logits).sum(axis=1).mean()
    assert float(steps._learn(tf.constant(rich), tf.constant(labels))) == pytest.approx(wanted, rel=1e-5)


def test_a_step_of_stages_0_and_2_is_about_equation_1_in_float64(untraced):
    """Cross-entropy, the squared error of what is drawn, and m-L2, each by its weight."""
    weights = {"reconstruction_weight": 0.5, "metric_weight": 0.25, "reconstruction_over": "sum"}
    settings, images = config(loss=weights), data()
    classifier = classifier_lib.build_classifier(settings, images.counts, steps_per_epoch=1)
    pixels, labels = DECODE(tf.constant(images.encoded))[0], tf.constant(images.class_ids, tf.int64)
    rich = classifier.embedder.encoder(pixels, training=True)
    drawn = classifier.decoder(rich, training=True).numpy().astype(np.float64)
    features = classifier.embedder.filter(rich, training=True).numpy().astype(np.float64)
    logits = features @ classifier.head.prototypes.numpy()
    entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    different = np.square(drawn - pixels.numpy()).sum(axis=(1, 2, 3)).mean()
    wanted = entropy.mean() + 0.5 * different + 0.25 * np.square(logits).sum(axis=1).mean()
    cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = stages.Stages(classifier, settings, cross_entropy).step_2(pixels, labels)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_batch_normalisation_is_made_precise_by_the_images_as_they_are(trained):
    classifier, images = trained[0], data()
    everything = alternation.Images(config(training={"batch": 25}), images, DECODE)
    alternation.PreciseBatchNorm(classifier, everything).apply()
    first, norm = (
        next(layer for layer in classifier.embedder.encoder.layers if name in layer.name) for name in ("conv", "batch")
    )
    made = first(DECODE(tf.constant(images.encoded))[0]).numpy().astype(np.float64)
    np.testing.assert_allclose(norm.moving_mean, made.mean(axis=(0, 1, 2)), atol=1e-5)


def test_what_is_exported_is_the_filtered_embedding_at_unit_length(trained, tmp_path):
    classifier, encoded = trained[0], tf.constant(data().encoded)
    path = saved_model.export(classifier.embedder, DECODE, str(tmp_path / "1"))
    served = tf.saved_model.load(path).signatures["serving_default"](encoded)["embedding"]
    embedded = classifier.embedder.filter(classifier.embedder.encoder(DECODE(encoded)[0])).numpy()
    np.testing.assert_allclose(served, embedded / np.linalg.norm(embedded, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("counts, missing", [({"head": 0}, "no head class"), ({"tail": 0}, "no tail class")])
def test_classes_of_one_kind_are_refused_in_one_line(counts, missing):
    with pytest.raises(errors.UsageError, match=f"^leap.head_threshold: 5 leaves .* {missing}, [^\n]*$"):
        loop.train(config(), data(**{"head": 2, "tail": 3, **counts}), DECODE)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"transfer": {"energy": 1.5}}, "transfer.energy must be a number from 0 to 1 other than 0, not 1.5"),
        ({"transfer": {"energy": 0.0}}, "transfer.energy must be .*, not 0.0"),
        ({"transfer": {"variant": "some"}}, "transfer.variant must be one of none, transfer, .*, not 'some'"),
        ({"model": {"filter": False}}, "loss.reconstruction_weight: needs the rich features g, set model.filter"),
        (
            {
                "model": {"filter": False, "rich": True},
                "loss": {"reconstruction_weight": 0.0},
                "transfer": {"variant": "none"},
            },
            "model.rich: needs the rich features g, set model.filter to true; or set it to false",
        ),
        ({"model": {"width": 9.0}}, "model.width must be a number from 0.05 to 4, not 9.0"),
        ({"head": {"name": "cosface", "options": {}}}, "loss.metric_weight: the logits of head 'cosface' are of co"),
        ({"head": {"options": {"bias": 2}}}, "head.options.bias must be a whole number from 0 to 1, not 2"),
        ({"leap": {"variant": "full"}, "loss": {"metric_weight": 0.0}}, "has no angles for a cloud"),
        ({"training": {"precision": "mixed_float16"}}, "transfer.variant: trains in float32 alone"),
        (
            {"head": {"name": "curricularface", "scale": 8.0, "options": {}}, "loss": {"metric_weight": 0.0}},
            "transfer.variant: stage 2 keeps the head as it is, and curricularface has running means; take another",
        ),
        ({"loss": {"centre_weight": 0.1}}, "loss.centre_weight: stage 1 of transfer.variant transfer has no"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, message):
    with pytest.raises(errors.UsageError, match=f"^{'.*' if message.startswith('has') else ''}{message}[^\n]*$"):
        loop.train(config(**change), data(), DECODE)


def test_two_replicas_are_refused(two_replicas):
    with pytest.raises(errors.UsageError, match="^transfer.variant: stages 1 and 2 run on one device"):
        loop.train(config(), data(), DECODE, strategy=two_replicas)


def test_mirror_images_change_the_training_and_are_warned_of(plain, caplog, untraced):
    with caplog.at_level(logging.WARNING, "longtail"):
        changed = loop.train(config(transfer={"flip": True, **ONCE}, loss=NOT_DRAWN), data(), DECODE)
    (line,) = (record.getMessage() for record in caplog.records if "transfer.flip" in record.getMessage())
    assert "\n" not in line and "set it to false" in line
    assert not np.array_equal(changed.head.prototypes, plain[0])


def test_progress_names_stage_and_alternation(plain):
    for words in ("epoch 1/2 ", "stage 1 of alternation 1/1 ", "stage 2 of alternation 1/1 "):
        assert sum(line.startswith(words) for line in plain[1]) == 1

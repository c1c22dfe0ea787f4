"""Tail health: what is told of head and tail is what memory and weights hold, and telling it changes nothing."""

import json
import logging

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import heads
from longtail.models.export import preprocess
from longtail.models.leap import feature_cloud
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.models.training import tail_health

COUNTS = np.array([20, 12, 3, 3, 1])
SHAPE = (16, 16, 1)


def fed(counts=COUNTS, steps=30, classes=None, **settings):
    """A CosFace head under a cloud that has seen `steps` batches of the first `classes` classes; widths of all rows."""
    rng = np.random.default_rng(0)
    cloud = feature_cloud.FeatureCloud(counts, angle_order="before", centre_momentum=0.9, **settings)
    head = heads.CosFace(len(counts), 24.0, 0.2, cloud)
    head.build([(None, 8), (None,)])
    widths = []
    for _ in range(steps):
        labels = rng.integers(0, classes or len(counts), 16)
        noise = rng.normal(size=(16, 8)) * np.where(np.asarray(counts) > 10, 0.5, 0.2)[labels, None]
        features = tf.constant(2 * np.eye(len(counts), 8)[labels] + noise, tf.float32)
        widths.append(cloud.spread(features, tf.constant(labels))[0].numpy())
    return head, np.array(widths)


def raw_angles(memory):
    """The angles each class remembers, read from the memory's flat storage."""
    angles, seen, start = memory.angles.numpy().astype(np.float64), memory.seen.numpy(), 0
    for count, times in zip(memory.counts, seen, strict=True):
        size = count * memory.images_kept
        yield angles[start : start + min(times, size)]
        start += size


@pytest.mark.parametrize("group", ["head", "tail"])
def test_means_and_variances_are_those_of_the_remembered_angles(group):
    head, _ = fed()
    chosen = [
        a for a, count in zip(raw_angles(head.cloud.memory), COUNTS, strict=True) if (count > 10) == (group == "head")
    ]
    found = tail_health.tail_health(head, COUNTS, 10)[group]
    assert found["classes"] == len(chosen)
    assert found["angular_mean"] == pytest.approx(np.mean([a.mean() for a in chosen]), rel=1e-5)
    assert found["angular_variance"] == pytest.approx(np.mean([a.var(ddof=1) for a in chosen]), rel=1e-5)


@pytest.mark.parametrize("refresh_every", [1, 7])
def test_width_of_a_class_is_the_one_its_last_samples_drew_from(refresh_every):
    head, _ = fed(variant="vanilla", refresh_every=refresh_every)
    features = tf.constant(2 * np.eye(len(COUNTS), 8), tf.float32)
    drawn = head.cloud.spread(features, tf.range(len(COUNTS)))[0].numpy()
    np.testing.assert_allclose(head.cloud.widths().numpy(), drawn, rtol=1e-5, atol=1e-6)
    found = tail_health.tail_health(head, COUNTS, 10)
    assert found["tail"]["classes_with_cloud"] == np.mean(drawn[2:] > 0) > 0
    assert found["tail"]["cloud_width"] == pytest.approx(drawn[2:][drawn[2:] > 0].mean(), rel=1e-5)
    assert found["head"]["classes_with_cloud"] == 0 and "cloud_width" not in found["head"]


def test_share_of_samples_counts_the_rows_whose_width_was_above_zero():
    head, widths = fed(start_step=10)
    share = tail_health.tail_health(head, COUNTS, 10)["samples_with_cloud"]
    assert share == np.mean(widths > 0) and 0 < share < 2 / 3


def test_no_sample_and_no_class_has_a_cloud_before_its_first_step():
    head, _ = fed(start_step=30)
    found = tail_health.tail_health(head, COUNTS, 10)
    assert found["samples_with_cloud"] == found["tail"]["classes_with_cloud"] == 0.0
    assert "cloud_width" not in found["tail"]


def test_weight_norms_are_the_lengths_of_the_prototypes():
    head, _ = fed()
    lengths = np.linalg.norm(head.prototypes.numpy(), axis=0)
    found = tail_health.tail_health(head, COUNTS, 10)
    assert found["head"]["weight_norm"] == pytest.approx(lengths[:2].mean(), rel=1e-5)
    assert found["tail"]["weight_norm"] == pytest.approx(lengths[2:].mean(), rel=1e-5)


def finite(found):
    """The strict reader of JSON takes neither NaN nor infinity."""
    return json.loads(json.dumps(found, allow_nan=False))


def test_classes_never_seen_are_left_out():
    head, _ = fed(classes=2)
    found = finite(tail_health.tail_health(head, COUNTS, 10))
    assert set(found["tail"]) == {"classes", "classes_with_cloud", "weight_norm"}
    assert "angular_variance" in found["head"]


def test_a_class_with_one_angle_has_a_mean_and_no_variance():
    head, _ = fed(steps=0)
    head.cloud(tf.ones([1, 8]), tf.constant([4]))
    found = finite(tail_health.tail_health(head, COUNTS, 10))
    assert "angular_mean" in found["tail"] and "angular_variance" not in found["tail"]


def test_a_group_without_classes_is_left_out():
    head, _ = fed()
    assert set(finite(tail_health.tail_health(head, COUNTS, 50))) == {"tail", "samples_with_cloud"}


def test_a_head_without_a_cloud_tells_its_weights_alone():
    head = heads.SubCentreArcFace(5, 16.0, 0.2)
    head.build([(None, 8), (None,)])
    found = tail_health.tail_health(head, COUNTS, 10)
    assert {name: set(group) for name, group in found.items()} == dict.fromkeys(
        ("head", "tail"), {"classes", "weight_norm"}
    )


def test_a_head_without_weights_tells_its_classes_alone():
    head = heads.Triplet(5)
    head.build([(None, 8), (None,)])
    assert tail_health.tail_health(head, COUNTS, 10) == {"head": {"classes": 2}, "tail": {"classes": 3}}


def data():
    """Five classes of noise; of two there are more images."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), COUNTS)
    pixels = rng.integers(0, 255, (len(labels), *SHAPE)).astype(np.uint8)
    return training_data.TrainingSet(np.array([tf.io.encode_png(p).numpy() for p in pixels], object), labels, COUNTS)


def fit(callbacks=(), epochs=3, start_epoch=1, **more):
    config = config_lib.TrainConfig(
        config_lib.Model(image=SHAPE, dimension=8),
        leap=config_lib.Leap("full", start_epoch=start_epoch, head_threshold=10),
        training=config_lib.Training(epochs=epochs, batch=8),
    )
    return loop.train(config, data(), preprocess.Preprocess(SHAPE), callbacks=callbacks, **more)


class Seen(tf.keras.callbacks.Callback, logging.Handler):
    """Keeps each step's loss, each epoch's share of samples with a cloud, and what was said."""

    def __init__(self):
        tf.keras.callbacks.Callback.__init__(self)
        logging.Handler.__init__(self)
        self.losses, self.shares, self.lines = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        self.shares.append(logs["samples_with_cloud"])

    def emit(self, record):
        self.lines.append(record.getMessage())


def values(folder):
    """What the event files of a folder hold: {tag: {step: array}}."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the event files, what was seen, and the classifier of one training."""
    board, seen, log = tmp_path_factory.mktemp("board"), Seen(), logging.getLogger("longtail")
    level = log.level
    log.addHandler(seen)
    log.setLevel(logging.INFO)
    try:
        return board, seen, fit([seen], board=str(board))
    finally:
        log.removeHandler(seen)
        log.setLevel(level)


def test_event_files_hold_every_epochs_means_of_head_and_tail(trained):
    board, _, classifier = trained
    last = tail_health.tail_health(classifier.head, COUNTS, 10)
    for group in ("head", "tail"):
        written = values(board / group)
        for name, value in last[group].items():
            assert written[f"tail_health/{name}"][2] == pytest.approx(value, rel=1e-6)
        assert set(written["tail_health/angular_variance"]) == {0, 1, 2}


def test_event_files_hold_histograms_over_the_classes_of_head_and_tail(trained):
    board, _, classifier = trained
    lengths = np.linalg.norm(classifier.head.prototypes.numpy(), axis=0)
    for group, its in (("head", lengths[:2]), ("tail", lengths[2:])):
        written = values(board / group)
        buckets = written["tail_health/weight_norm_by_class"][2]
        assert buckets[:, 2].sum() == len(its)
        assert (buckets[0, 0], buckets[-1, 1]) == pytest.approx((its.min(), its.max()), rel=1e-5)
        assert "tail_health/angular_variance_by_class" in written


def test_share_of_samples_is_written_beside_the_loss_and_starts_anew_each_epoch(trained):
    board, seen, classifier = trained
    written = values(board / "train")["epoch_samples_with_cloud"]
    assert [float(written[epoch]) for epoch in range(3)] == pytest.approx(seen.shares)
    assert seen.shares[0] == 0.0 < seen.shares[2] <= 1.0
    assert tail_health.tail_health(classifier.head, COUNTS, 10)["samples_with_cloud"] == seen.shares[2]


def test_losses_with_and_without_it_are_the_same_to_the_bit(trained, monkeypatch):
    monkeypatch.setattr(tail_health.TailHealth, "on_epoch_end", lambda *_: None)
    without = Seen()
    fit([without])
    assert without.losses == trained[1].losses


def test_the_line_of_an_epoch_says_how_many_samples_have_a_cloud_and_how_wide_head_and_tail_are(trained):
    _, seen, classifier = trained
    first, _, last = [line for line in seen.lines if line.startswith("epoch")]
    found = tail_health.tail_health(classifier.head, COUNTS, 10)
    assert "cloud off  variance head 0." in first
    assert f"cloud full on {100 * found['samples_with_cloud']:.0f}% of samples" in last
    assert last.endswith(f"tail {found['tail']['angular_variance']:.4f}")


def test_two_replicas_count_the_samples_of_both(two_replicas, tmp_path):
    seen = Seen()
    classifier = fit([seen], epochs=1, start_epoch=0, strategy=two_replicas, board=str(tmp_path))
    assert classifier.head.cloud.clouded.count.numpy() == 8 * (len(data().class_ids) // 8)
    found = tail_health.tail_health(classifier.head, COUNTS, 10)
    assert 0.0 < seen.shares[0] == found["samples_with_cloud"] <= 1.0
    assert set(values(tmp_path / "tail")) > {"tail_health/angular_variance", "tail_health/weight_norm_by_class"}


def test_a_training_that_was_done_already_tells_the_same(tmp_path):
    first, again = (fit(epochs=1, start_epoch=0, checkpoints=str(tmp_path)) for _ in range(2))
    assert tail_health.tail_health(again.head, COUNTS, 10) == tail_health.tail_health(first.head, COUNTS, 10)

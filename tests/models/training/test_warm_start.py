"""A training that goes on from an exported model: what is carried by name, what is made anew, and what does not fit."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import files
from longtail.models import heads
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.export import signatures
from longtail.models.export import starts
from longtail.models.feature_transfer import networks
from longtail.models.leap import kept_angles
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.models.training import warm_start
from tests.models.feature_transfer import test_alternation
from tests.models.training import test_loop

DECODE = preprocess.Preprocess(test_loop.SHAPE)
NAMES = ["n-ann", "n-bob", "n-cat", "n-dan"]
SHORT = {"epochs": 3}


def exported(folder, settings, images, names=NAMES):
    """A trained classifier, and the folder it was exported to."""
    trained = loop.train_and_export(settings, images, DECODE, str(folder / "kept"), str(folder / "1"), identities=names)
    return trained, str(folder / "1")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A classifier of four classes under a full cloud, and where it was exported to."""
    settings = test_loop.config(training=SHORT, leap={"form": "closed"})
    return exported(tmp_path_factory.mktemp("start"), settings, test_loop.data())


def of(names, counts):
    """Images of classes by their names, as many as `counts` says; "new" is of none that the start knows."""
    images = test_loop.data(classes=5, per_class=max(counts))
    patterns = [NAMES.index(name) if name in NAMES else 4 for name in names]
    rows = [np.flatnonzero(images.class_ids == number)[:count] for number, count in zip(patterns, counts, strict=True)]
    labels = np.repeat(np.arange(len(names)), counts)
    return training_data.TrainingSet(images.encoded[np.concatenate(rows)], labels, np.array(counts))


def settings_from(folder, **changes):
    training = {**SHORT, "start_from": folder, **changes.pop("training", {})}
    return test_loop.config(**{"leap": {"form": "closed"}, **changes, "training": training})


def carried(folder, names, counts, **changes):
    """A classifier just built that has gone on from a start, and its images."""
    images = of(names, counts)
    warm = warm_start.find(settings_from(folder, **changes), identities=names)
    classifier = classifier_lib.build_classifier(warm.config, images.counts, 4)
    warm.carry(classifier, images, DECODE)
    return classifier, images


def kept_of(memory, label):
    """The angles a class keeps, oldest first."""
    kept = kept_angles.take(memory)
    return kept.angles[kept.counts[:label].sum() :][: kept.counts[label]]


def test_the_embedder_is_carried(start):
    trained, folder = start
    classifier, _ = carried(folder, NAMES, [8] * 4)
    for own, theirs in zip(classifier.embedder.weights, trained.embedder.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_prototypes_and_centres_are_carried_by_name_whatever_the_class_ids(start):
    trained, folder = start
    classifier, _ = carried(folder, ["n-cat", "new", "n-ann"], [8] * 3)
    for own, theirs in ((0, 2), (2, 0)):
        np.testing.assert_array_equal(classifier.head.prototypes[:, own], trained.head.prototypes[:, theirs])
        memory, before = classifier.head.cloud.memory, trained.head.cloud.memory
        np.testing.assert_array_equal(memory.centres[own], before.centres[theirs])
        np.testing.assert_array_equal(kept_of(memory, own), kept_of(before, theirs))


def test_a_new_identity_begins_with_an_empty_memory(start):
    memory = carried(start[1], ["n-cat", "new", "n-ann"], [8] * 3)[0].head.cloud.memory
    assert memory.seen.numpy().tolist() == [24, 0, 24] and not memory.centres.numpy()[1].any()
    assert memory.variance(tf.constant([0, 1, 2], tf.int64))[1].numpy().tolist() == [True, False, True]


def mean_direction(trained, images, label):
    embedded = trained.embedder(DECODE(tf.constant(images.encoded[images.class_ids == label]))[0], training=False)
    mean = (embedded.numpy() / np.linalg.norm(embedded, axis=1, keepdims=True)).mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_new_identitys_prototype_is_its_images_mean_embedding_as_long_as_the_others(start):
    trained, folder = start
    classifier, images = carried(folder, ["n-cat", "new", "n-ann"], [8] * 3)
    length = np.median(np.linalg.norm(trained.head.prototypes.numpy()[:, [2, 0]], axis=0))
    expected = length * mean_direction(trained, images, 1)
    np.testing.assert_allclose(classifier.head.prototypes[:, 1], expected, rtol=1e-4, atol=1e-6)


def test_of_a_start_without_names_every_prototype_is_a_mean_embedding(tmp_path, start):
    trained, folder = start
    shutil.copytree(folder, tmp_path / "1")
    (tmp_path / "1" / signatures.CLASSES_FILE).unlink()
    classifier, images = carried(str(tmp_path / "1"), NAMES, [8] * 4)
    own = classifier.head.prototypes.numpy()
    for label in range(4):
        direction = own[:, label] / np.linalg.norm(own[:, label])
        np.testing.assert_allclose(direction, mean_direction(trained, images, label), atol=1e-5)


@pytest.mark.parametrize("count", [12, 8, 2])
def test_a_memory_that_grew_or_shrank_keeps_the_newest_angles_and_their_statistics(start, count):
    trained, folder = start
    memory = carried(folder, ["n-dan", "n-ann"], [8, count])[0].head.cloud.memory
    newest = kept_of(trained.head.cloud.memory, 0)[-3 * count :]
    np.testing.assert_array_equal(kept_of(memory, 1), newest)
    variance, known = memory.variance(tf.constant([1], tf.int64))
    assert known.numpy() and len(newest) == min(24, 3 * count)
    np.testing.assert_allclose(variance, newest.astype(np.float64).var(ddof=1), rtol=1e-9)


def test_a_cloud_whose_angles_are_carried_begins_at_once(start):
    names, folder = NAMES, start[1]
    assert warm_start.find(settings_from(folder), identities=names).config.leap.start_epoch == 0
    otherwise = settings_from(folder, leap={"angle_order": "before"})
    assert warm_start.find(otherwise, identities=names).config.leap.start_epoch == 1


def test_angles_that_were_measured_otherwise_are_not_carried(start):
    memory = carried(start[1], NAMES, [8] * 4, leap={"angle_order": "before"})[0].head.cloud.memory
    assert not memory.seen.numpy().any() and not memory.centres.numpy().any()


def test_a_warm_start_has_epochs_of_its_own(start):
    changes = {"training": {"warm_epochs": 2, "epochs": 9}}
    assert warm_start.find(settings_from(start[1], **changes)).config.training.epochs == 2
    assert warm_start.find(settings_from(start[1], training={"epochs": 9})).config.training.epochs == 9


def gone_on(start, settings, before, names):
    """Another classifier like `before`, just built, that goes on from what `before` knows of NAMES."""
    identities, arrays = starts._unpacked(warm_start.pack(before, np.array([8] * 4), NAMES), "")
    known = starts.Start(start[1], "", dataclasses.asdict(settings), identities, arrays)
    images = of(names, [8] * len(names))
    after = classifier_lib.build_classifier(settings, images.counts, 4)
    warm_start.WarmStart(settings, known, names).carry(after, images, DECODE)
    return after


def taught(start, settings):
    """A classifier of NAMES with the start's embedder, whose head has met some images."""
    before = classifier_lib.build_classifier(settings, np.array([8] * 4), 4)
    before.embedder.set_weights(start[0].embedder.get_weights())
    for batch, _ in training_data.batches(test_loop.data(), DECODE, settings)[0].take(6):
        before(batch, training=True)
    return before


KEPT = {
    "plain": {"leap": test_loop.PLAIN},
    "softmax": {"leap": test_loop.PLAIN, "head": {"name": "softmax"}},
    "sub-centres": {"leap": test_loop.PLAIN, "head": {"name": "subcentre_arcface"}},
    "full cloud": {"leap": {"form": "closed", "start_epoch": 0}},
    "corrected": {"leap": {"form": "closed", "start_epoch": 0, "statistics": "corrected"}},
    "adaface": {"leap": test_loop.PLAIN, "head": {"name": "adaface"}},
    "curricularface": {"leap": test_loop.PLAIN, "head": {"name": "curricularface"}},
    "centre loss": {"leap": test_loop.PLAIN, "loss": {"centre_weight": 0.1}},
}


@pytest.mark.parametrize("name", KEPT)
def test_what_goes_on_answers_as_what_it_goes_on_from(start, name):
    settings = test_loop.config(**KEPT[name])
    before = taught(start, settings)
    after = gone_on(start, settings, before, NAMES)
    batch, _ = next(iter(training_data.batches(test_loop.data(), DECODE, settings)[0]))
    one, other = before(batch, training=True), after(batch, training=True)
    np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(after.losses), sum(before.losses), rtol=1e-5)


def test_where_nothing_changed_the_first_loss_is_the_finished_models_own(start):
    trained, folder = start
    settings, images, losses = settings_from(folder, training={"epochs": 1}), test_loop.data(), test_loop.Losses()
    (batch, labels), _ = next(iter(training_data.batches(images, DECODE, settings)[0]))
    memory = [weight.numpy() for weight in trained.weights]
    expected = trained.loss(labels, trained((batch, labels), training=True))
    trained.set_weights(memory)
    loop.train(settings, images, DECODE, None, [losses], warm=warm_start.find(settings, identities=NAMES))
    np.testing.assert_allclose(losses.losses[0], expected, rtol=2e-6)


@pytest.mark.parametrize("rank", [3, 16])
def test_the_scatter_of_a_directional_cloud_is_carried_whatever_its_rank(start, rank):
    before = taught(start, test_loop.config(leap={"variant": "directional"}))
    after = gone_on(start, test_loop.config(leap={"variant": "directional", "rank": rank}), before, ["n-bob", "new"])
    own, theirs = after.head.cloud.scatter, before.head.cloud.scatter
    np.testing.assert_array_equal(own.sigma, theirs.sigma)
    variances, vectors = np.linalg.eigh(theirs.sigma.numpy())
    widest = (vectors * variances)[:, -rank:] @ vectors[:, -rank:].T
    np.testing.assert_allclose(own.root() @ tf.transpose(own.root()), widest, atol=1e-5)
    np.testing.assert_array_equal(own.centres[0], theirs.centres[1])
    assert own.seen.numpy().tolist() == [True, False] and own.batches == theirs.batches == 6 - 1


@pytest.mark.parametrize("name", heads.HEADS)
def test_what_every_head_keeps_is_carried(start, name):
    settings = test_loop.config(
        head={"name": name, "margin": max(0.2, heads.HEADS[name].MARGINS[0])}, leap=test_loop.PLAIN
    )
    before = classifier_lib.build_classifier(settings, np.array([8] * 4), 1)
    for number, weight in enumerate(before.head.weights):
        weight.assign(tf.random.stateless_normal(weight.shape, [1, number]))
    after = gone_on(start, settings, before, NAMES[::-1])
    for own, theirs in zip(after.head.weights, before.head.weights, strict=True):
        is_of_classes = any(own is each for each in after.head.class_weights().values())
        own, theirs = (weight.numpy().T for weight in (own, theirs))
        if is_of_classes:
            own, theirs = own.reshape(4, -1), theirs.reshape(4, -1)[::-1]
        np.testing.assert_array_equal(own, theirs)


def test_of_a_new_identitys_sub_centres_the_first_is_the_mean_and_the_others_differ(start):
    changes = {"leap": test_loop.PLAIN, "head": {"name": "subcentre_arcface"}}
    classifier, images = carried(start[1], ["new", "n-ann"], [8, 8], **changes)
    first, *others = classifier.head.prototypes.numpy().T[:3]
    np.testing.assert_allclose(first / np.linalg.norm(first), mean_direction(start[0], images, 0), atol=1e-5)
    assert all(np.abs(first - other).max() > 1e-3 for other in others) and np.abs(others[0] - others[1]).max() > 1e-3


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    """Settings of feature transfer, an untrained classifier by them, and what an export of it leaves for a training."""
    settings = test_alternation.config(transfer={"variant": "none"})
    before = classifier_lib.build_classifier(settings, test_alternation.data().counts, 1)
    folder = str(tmp_path_factory.mktemp("filtered") / "1")
    content = warm_start.pack(before, test_alternation.data().counts, list("abcde"))
    card = {"image_shape": test_loop.SHAPE, "dimension": 8, "config": dataclasses.asdict(settings)}
    files.write_json(f"{folder}/{signatures.MODEL_CARD_FILE}", card)
    files.write(f"{folder}/{signatures.CLASSES_FILE}", content)
    saved_model._write_weights(before.embedder, f"{folder}/{signatures.WEIGHTS_FILE}")
    return settings, before, folder


def test_feature_transfer_goes_on_with_encoder_filter_decoder_and_classifier(filtered):
    settings, before, folder = filtered
    training = dataclasses.replace(settings.training, start_from=folder)
    warm = warm_start.find(dataclasses.replace(settings, training=training), identities=list("abcde"))
    after = classifier_lib.build_classifier(settings, test_alternation.data().counts, 1)
    warm.carry(after, test_alternation.data(), DECODE)
    assert after.decoder.weights
    for own, theirs in zip(after.weights, before.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_a_resumed_warm_training_is_the_uninterrupted_one_to_the_bit(start, tmp_path):
    settings = settings_from(start[1], training={"epochs": 2}, leap={"form": "drawn"})
    images, whole, resumed = of(["n-cat", "new", "n-ann"], [8] * 3), test_loop.Losses(), test_loop.Losses()
    warm = warm_start.find(settings, identities=["n-cat", "new", "n-ann"])
    killed = test_loop.Killed(1, tmp_path / "a", tmp_path / "b")
    loop.train(settings, images, DECODE, str(tmp_path / "a"), [whole, killed], warm=warm)
    loop.train(settings, images, DECODE, str(tmp_path / "b"), [resumed], warm=warm)
    assert len(resumed.losses) == len(whole.losses) // 2
    assert resumed.losses == whole.losses[-len(resumed.losses) :]


def test_a_training_is_named_by_its_start(start, tmp_path):
    images = test_loop.data()
    assert loop._digest("{}", images, "one") != loop._digest("{}", images, "other") != loop._digest("{}", images)
    shutil.copytree(start[1], tmp_path / "1")
    same = starts.read(str(tmp_path / "1"), test_loop.config().model).digest
    (tmp_path / "1" / signatures.CLASSES_FILE).unlink()
    other = starts.read(str(tmp_path / "1"), test_loop.config().model).digest
    assert starts.read(start[1], test_loop.config().model).digest == same != other


def test_two_replicas_in_mixed_precision_go_on_with_one_state(start, two_replicas):
    settings = settings_from(start[1], training={"epochs": 1, "precision": "mixed_float16"})
    warm = warm_start.find(settings, identities=NAMES)
    trained = loop.train(settings, test_loop.data(), DECODE, strategy=two_replicas, warm=warm)
    seen = two_replicas.experimental_local_results(trained.head.cloud.memory.seen)
    assert [copy.numpy().tolist() for copy in seen] == [[32] * 4] * 2  # 24 carried and 8 new ones
    assert all(np.isfinite(weight.numpy()).all() for weight in trained.weights)


def test_nothing_that_a_later_training_needs_is_in_the_served_graph(start):
    trained, folder = start
    with tf.io.gfile.GFile(f"{folder}/saved_model.pb", "rb") as file:
        graph = file.read()
    assert trained.head.prototypes.numpy().tobytes() not in graph and b"n-ann" not in graph
    with np.load(f"{folder}/{signatures.CLASSES_FILE}", allow_pickle=False) as arrays:
        assert arrays["prototypes"].shape == (4, 8) and arrays["counts"].tolist() == [8] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 6}, "has model.dimension 8 and this training 6; set model.dimension to what it has"),
        ({"image": (20, 20, 1)}, r"has model.image \[16, 16, 1\] and this training \[20, 20, 1\]"),
        ({"backbone": "resnet18"}, "has model.backbone conv4 and this training resnet18"),
        ({"filter": True}, "has model.filter False and this training True"),
    ],
)
def test_a_start_of_another_embedder_is_refused_with_both_values(start, change, message):
    with pytest.raises(errors.UsageError, match=message) as caught:
        loop.train(settings_from(start[1], model=change), test_loop.data(), DECODE)
    assert "\n" not in str(caught.value)


def test_another_width_is_refused_where_there_is_one(filtered):
    settings, _, folder = filtered
    with pytest.raises(errors.UsageError, match="has model.width 0.05 and this training 0.1"):
        starts.check(folder, dataclasses.replace(settings.model, width=0.1))


@pytest.mark.parametrize("missing", [signatures.WEIGHTS_FILE, signatures.MODEL_CARD_FILE])
def test_a_folder_that_is_no_model_of_ours_is_refused_with_what_is_missing(start, tmp_path, missing):
    shutil.copytree(start[1], tmp_path / "1")
    (tmp_path / "1" / missing).unlink()
    with pytest.raises(errors.UsageError, match=f"no model that longtail exported .*{missing}.*; give the folder of"):
        loop.train(settings_from(str(tmp_path / "1")), test_loop.data(), DECODE)


@pytest.mark.parametrize("damaged", [signatures.WEIGHTS_FILE, signatures.CLASSES_FILE])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_damaged_start_is_one_line(start, tmp_path, damaged, share):
    shutil.copytree(start[1], tmp_path / "1")
    content = (tmp_path / "1" / damaged).read_bytes()
    (tmp_path / "1" / damaged).write_bytes(content[: int(share * len(content))])
    with pytest.raises(errors.WorkError, match=f"{damaged}: damaged, or of another model") as caught:
        loop.train(settings_from(str(tmp_path / "1")), test_loop.data(), DECODE)
    assert "\n" not in str(caught.value)


def test_weights_of_another_backbone_whose_card_says_nothing_are_refused(tmp_path, start):
    shutil.copytree(start[1], tmp_path / "1")
    files.write_json(str(tmp_path / "1" / signatures.MODEL_CARD_FILE), {"image_shape": [16, 16, 1], "dimension": 8})
    other = networks.build_embedder(config_lib.Model("resnet18", test_loop.SHAPE, 8))
    (tmp_path / "1" / signatures.WEIGHTS_FILE).unlink()
    saved_model._write_weights(other, str(tmp_path / "1" / signatures.WEIGHTS_FILE))
    with pytest.raises(errors.WorkError, match="of another model"):
        loop.train(settings_from(str(tmp_path / "1")), test_loop.data(), DECODE)


def test_a_blessed_start_where_there_is_none_trains_from_scratch():
    assert warm_start.find(test_loop.config(training={"start_from": config_lib.BLESSED})) is None

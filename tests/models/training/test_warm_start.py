"""A training that goes on from an exported model: what is carried by name, what is made anew, and what does not fit."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.models.export import preprocess
from longtail.models.export import signatures
from longtail.models.export import starts
from longtail.models.leap import kept_angles
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.models.training import warm_start
from tests.models.feature_transfer import test_alternation
from tests.models.training import test_loop

DECODE = preprocess.Preprocess(test_loop.SHAPE)
NAMES = ["ann", "bob", "cat", "dan"]
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
    classifier, _ = carried(folder, ["cat", "new", "ann"], [8] * 3)
    for own, theirs in ((0, 2), (2, 0)):
        np.testing.assert_array_equal(classifier.head.prototypes[:, own], trained.head.prototypes[:, theirs])
        memory, before = classifier.head.cloud.memory, trained.head.cloud.memory
        np.testing.assert_array_equal(memory.centres[own], before.centres[theirs])
        np.testing.assert_array_equal(kept_of(memory, own), kept_of(before, theirs))


def test_a_new_identity_begins_with_an_empty_memory(start):
    memory = carried(start[1], ["cat", "new", "ann"], [8] * 3)[0].head.cloud.memory
    assert memory.seen.numpy().tolist() == [24, 0, 24] and not memory.centres.numpy()[1].any()
    assert memory.variance(tf.constant([0, 1, 2], tf.int64))[1].numpy().tolist() == [True, False, True]


def mean_direction(trained, images, label):
    embedded = trained.embedder(DECODE(tf.constant(images.encoded[images.class_ids == label]))[0], training=False)
    mean = (embedded.numpy() / np.linalg.norm(embedded, axis=1, keepdims=True)).mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_new_identitys_prototype_is_its_images_mean_embedding_as_long_as_the_others(start):
    trained, folder = start
    classifier, images = carried(folder, ["cat", "new", "ann"], [8] * 3)
    length = np.median(np.linalg.norm(trained.head.prototypes.numpy()[:, [2, 0]], axis=0))
    expected = length * mean_direction(trained, images, 1)
    np.testing.assert_allclose(classifier.head.prototypes[:, 1], expected, rtol=1e-4, atol=1e-6)


def test_a_start_without_names_carries_the_embedder_and_every_prototype_is_a_mean_embedding(tmp_path, start):
    trained, folder = exported(tmp_path, test_loop.config(training={"epochs": 1}), test_loop.data(), names=())
    assert not tf.io.gfile.exists(f"{folder}/{signatures.CLASSES_FILE}")
    classifier, images = carried(folder, NAMES, [8] * 4)
    own = classifier.head.prototypes.numpy()
    for label in range(4):
        direction = own[:, label] / np.linalg.norm(own[:, label])
        np.testing.assert_allclose(direction, mean_direction(trained, images, label), atol=1e-5)


@pytest.mark.parametrize("count", [12, 8, 2])
def test_a_memory_that_grew_or_shrank_keeps_the_newest_angles_and_their_statistics(start, count):
    trained, folder = start
    memory = carried(folder, ["dan", "ann"], [8, count])[0].head.cloud.memory
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


UNCHANGED = {
    "plain": {"leap": test_loop.PLAIN},
    "softmax": {"leap": test_loop.PLAIN, "head": {"name": "softmax"}},
    "sub-centres": {"leap": test_loop.PLAIN, "head": {"name": "subcentre_arcface"}},
    "full cloud": {"leap": {"form": "closed"}},
    "corrected": {"leap": {"form": "closed", "statistics": "corrected"}},
    "adaface": {"leap": test_loop.PLAIN, "head": {"name": "adaface"}},
    "curricularface": {"leap": test_loop.PLAIN, "head": {"name": "curricularface"}},
    "centre loss": {"leap": test_loop.PLAIN, "loss": {"centre_weight": 0.1}},
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_where_nothing_changed_the_first_loss_is_the_finished_models_own(tmp_path, name):
    images = test_loop.data()
    trained, folder = exported(tmp_path, test_loop.config(training=SHORT, **UNCHANGED[name]), images)
    settings = test_loop.config(training={"epochs": 1, "start_from": folder}, **UNCHANGED[name])
    (batch, labels), _ = next(iter(training_data.batches(images, DECODE, settings)[0]))
    expected = trained.loss(labels, trained((batch, labels), training=True)) + sum(trained.losses)
    losses = test_loop.Losses()
    loop.train(settings, images, DECODE, None, [losses], warm=warm_start.find(settings, identities=NAMES))
    np.testing.assert_allclose(losses.losses[0], expected, rtol=2e-6)


def test_the_scatter_of_a_directional_cloud_is_carried(tmp_path):
    settings = test_loop.config(training=SHORT, leap={"variant": "directional"})
    trained, folder = exported(tmp_path, settings, test_loop.data())
    classifier, _ = carried(folder, ["bob", "new"], [8, 8], leap={"variant": "directional"})
    own, theirs = classifier.head.cloud.scatter, trained.head.cloud.scatter
    np.testing.assert_array_equal(own.sigma, theirs.sigma)
    np.testing.assert_array_equal(own.centres[0], theirs.centres[1])
    assert own.seen.numpy().tolist() == [True, False] and own.batches == theirs.batches


@pytest.mark.parametrize("name", heads.HEADS)
def test_what_every_head_keeps_of_a_class_is_carried(tmp_path, name):
    head = dataclasses.replace(config_lib.Head(name), margin=max(0.2, heads.HEADS[name].MARGINS[0]))
    model = config_lib.Model(image=test_loop.SHAPE, dimension=8)
    config = config_lib.TrainConfig(model=model, head=head)
    counts = np.array([3, 3])
    before = classifier_lib.build_classifier(config, counts, 1)
    for number, weight in enumerate(before.head.weights):
        weight.assign(tf.random.stateless_normal(weight.shape, [1, number]))
    after = classifier_lib.build_classifier(config, counts, 1)
    identities, arrays = starts._unpacked(warm_start.pack(before, counts, ["x", "y"]), "")
    loop.saved_model.export(before.embedder, DECODE, str(tmp_path / "1"))
    known = starts.Start(str(tmp_path / "1"), "", {}, identities, arrays)
    warm_start.WarmStart(config, known, ["y", "x"]).carry(after, of(["cat", "dan"], [3, 3]), DECODE)
    for own, theirs in zip(after.head.class_weights().values(), before.head.class_weights().values(), strict=True):
        own, theirs = (np.reshape(weight.numpy().T, [2, -1]) for weight in (own, theirs))
        np.testing.assert_array_equal(own, theirs[::-1])
    shared = [w for w in after.head.weights if not any(w is c for c in after.head.class_weights().values())]
    others = [w for w in before.head.weights if not any(w is c for c in before.head.class_weights().values())]
    assert len(shared) == (name in ("curricularface", "adaface"))
    for own, theirs in zip(shared, others, strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_of_a_new_identitys_sub_centres_the_first_is_the_mean_and_the_others_differ(tmp_path):
    changes = {"leap": test_loop.PLAIN, "head": {"name": "subcentre_arcface"}}
    trained, folder = exported(tmp_path, test_loop.config(training={"epochs": 1}, **changes), test_loop.data())
    classifier, images = carried(folder, ["new", "ann"], [8, 8], **changes)
    first, *others = classifier.head.prototypes.numpy().T[:3]
    np.testing.assert_allclose(first / np.linalg.norm(first), mean_direction(trained, images, 0), atol=1e-5)
    assert all(np.abs(first - other).max() > 1e-3 for other in others) and np.abs(others[0] - others[1]).max() > 1e-3


def test_feature_transfer_goes_on_with_encoder_filter_decoder_and_classifier(tmp_path):
    settings = test_alternation.config(transfer={"variant": "none"}, training={"epochs": 1})
    names = list("abcde")
    trained, folder = exported(tmp_path, settings, test_alternation.data(), names)
    again = dataclasses.replace(settings, training=dataclasses.replace(settings.training, start_from=folder))
    warm = warm_start.find(again, identities=names)
    classifier = classifier_lib.build_classifier(again, test_alternation.data().counts, 1)
    warm.carry(classifier, test_alternation.data(), DECODE)
    parts = ("embedder", "decoder", "head")
    for own, theirs in (
        pair for part in parts for pair in zip(getattr(classifier, part).weights, getattr(trained, part).weights)  # noqa: B905
    ):
        np.testing.assert_array_equal(own, theirs)


@pytest.mark.parametrize("name", ["conv4", "directional"])
def test_a_resumed_warm_training_is_the_uninterrupted_one_to_the_bit(start, tmp_path, name):
    settings = settings_from(start[1], training={"epochs": 3}, **{"leap": {}, **test_loop.RESUMED[name]})
    images, whole, resumed = of(["cat", "new", "ann"], [8] * 3), test_loop.Losses(), test_loop.Losses()
    warm = warm_start.find(settings, identities=["cat", "new", "ann"])
    killed = test_loop.Killed(2, tmp_path / "a", tmp_path / "b")
    loop.train(settings, images, DECODE, str(tmp_path / "a"), [whole, killed], warm=warm)
    loop.train(settings, images, DECODE, str(tmp_path / "b"), [resumed], warm=warm)
    assert len(resumed.losses) == len(whole.losses) // 3
    assert resumed.losses == whole.losses[-len(resumed.losses) :]


def test_a_training_is_named_by_its_start(start, tmp_path):
    images = test_loop.data()
    assert loop._digest("{}", images, "one") != loop._digest("{}", images, "other") != loop._digest("{}", images)
    shutil.copytree(start[1], tmp_path / "1")
    same = starts.read(str(tmp_path / "1"), test_loop.config().model).digest
    (tmp_path / "1" / signatures.CLASSES_FILE).unlink()
    other = starts.read(str(tmp_path / "1"), test_loop.config().model).digest
    assert starts.read(start[1], test_loop.config().model).digest == same != other


def test_mixed_precision_trains_from_a_start(start):
    trained = loop.train(settings_from(start[1], training={"precision": "mixed_float16"}), test_loop.data(), DECODE)
    assert all(np.isfinite(weight.numpy()).all() for weight in trained.weights)


def test_two_replicas_go_on_with_one_state(start, two_replicas):
    settings = settings_from(start[1], training={"epochs": 1})
    warm = warm_start.find(settings, identities=NAMES)
    trained = loop.train(settings, test_loop.data(), DECODE, strategy=two_replicas, warm=warm)
    memory = trained.head.cloud.memory
    seen = [copy.numpy().tolist() for copy in two_replicas.experimental_local_results(memory.seen)]
    assert seen == [[32] * 4] * 2  # 24 carried and 8 new ones


def test_the_card_says_what_a_model_started_from(start, tmp_path):
    settings = settings_from(start[1], training={"epochs": 1})
    exported(tmp_path, settings, of(["cat", "new"], [8, 8]), ["cat", "new"])
    said = json.loads((tmp_path / "1" / signatures.MODEL_CARD_FILE).read_text())["start"]
    digest = starts.read(start[1], settings.model).digest
    assert said == {"from": start[1], "digest": digest, "known_identities": 1, "new_identities": 1, "epochs": 1}


def test_nothing_that_a_later_training_needs_is_in_the_served_graph(start):
    trained, folder = start
    with tf.io.gfile.GFile(f"{folder}/saved_model.pb", "rb") as file:
        graph = file.read()
    assert trained.head.prototypes.numpy().tobytes() not in graph and b"ann" not in graph
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


def test_another_width_is_refused_where_there_is_one(tmp_path):
    settings = test_alternation.config(transfer={"variant": "none"}, training={"epochs": 1})
    folder = exported(tmp_path, settings, test_alternation.data(), list("abcde"))[1]
    wider = dataclasses.replace(settings.model, width=0.1)
    with pytest.raises(errors.UsageError, match="has model.width 0.05 and this training 0.1"):
        starts.check(folder, wider)


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
    embedder = classifier_lib.networks.build_embedder(config_lib.Model("resnet18", test_loop.SHAPE, 8))
    loop.saved_model.export(embedder, DECODE, str(tmp_path / "1"))
    with pytest.raises(errors.WorkError, match="of another model"):
        loop.train(settings_from(str(tmp_path / "1")), test_loop.data(), DECODE)


def test_a_blessed_start_where_there_is_none_trains_from_scratch():
    assert warm_start.find(test_loop.config(training={"start_from": config_lib.BLESSED})) is None

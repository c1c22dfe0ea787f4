"""The loop: it learns, it resumes to the bit, and it says what is wrong."""

import dataclasses
import logging
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.training import data as training_data
from longtail.models.training import loop

SHAPE = (16, 16, 1)


def data(classes=4, per_class=8, seed=0):
    """Each class is a pattern under noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    patterns = rng.integers(0, 2, (classes, *SHAPE)) * 200
    pixels = np.clip(patterns[labels] + rng.integers(0, 55, (len(labels), *SHAPE)), 0, 255)
    encoded = np.array([tf.io.encode_png(p).numpy() for p in pixels.astype(np.uint8)], object)
    return training_data.TrainingSet(encoded, labels, np.full(classes, per_class))


def config(**changes):
    parts = {
        "model": config_lib.Model(image=SHAPE, dimension=8),
        "leap": config_lib.Leap(variant="full", start_epoch=1),
        "augment": config_lib.Augmentation(shift=0.05, rotation=5.0, flip=True, erase=0.2),
        "training": config_lib.Training(epochs=4, batch=8, rate=0.003),
        "head": config_lib.Head(),
        "loss": config_lib.Loss(),
    }
    for key, change in changes.items():
        parts[key] = dataclasses.replace(parts[key], **change)
    return config_lib.TrainConfig(**parts)


class Losses(tf.keras.callbacks.Callback):
    """Keeps each step's loss."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


class Killed(tf.keras.callbacks.Callback):
    """Copies the checkpoints at the start of an epoch: what a process that is killed then leaves behind."""

    def __init__(self, epoch, checkpoints, copy):
        super().__init__()
        self._epoch, self._folders = epoch, (checkpoints, copy)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            shutil.copytree(*self._folders)


def test_leap_training_learns_to_tell_the_classes_apart():
    losses = Losses()
    trained = loop.train(config(training={"epochs": 12}), data(), preprocess.Preprocess(SHAPE), None, [losses])
    assert np.mean(losses.losses[-4:]) < 0.5 * np.mean(losses.losses[:4])
    assert trained.head.cloud.step.numpy() == 48


PLAIN = {"variant": "none"}
RESUMED = {
    "conv4": {},
    "resnet18": {"model": {"backbone": "resnet18"}},
    "adaface": {"head": {"name": "adaface"}},
    "curricularface, sgd, warm-up": {
        "head": {"name": "curricularface"},
        "training": {"optimizer": "sgd", "warmup_epochs": 1.0},
    },
    "centre loss, late weights": {
        "head": {"name": "magface", "options": {"least_length": 1.0}},
        "loss": {"name": "class_balanced", "start_epoch": 3, "centre_weight": 0.1},
    },
    "triplet": {"head": {"name": "triplet"}, "leap": PLAIN, "training": {"images_per_class": 2}},
    "noise": {"leap": {"variant": "noise_all"}},
    "closed, corrected": {"leap": {"form": "closed", "statistics": "corrected"}},
    "every third step": {"leap": {"refresh_every": 3}},
    "directional": {"leap": {"variant": "directional", "strength": 5.0}},
    "semi-Siamese": {"leap": PLAIN, "training": {"gallery_momentum": 0.9, "images_per_class": 2}},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path, name):
    settings, images, decode = config(**RESUMED[name]), data(), preprocess.Preprocess(SHAPE)
    whole, resumed = Losses(), Losses()
    killed = Killed(2, tmp_path / "a", tmp_path / "b")
    loop.train(settings, images, decode, str(tmp_path / "a"), [whole, killed])
    loop.train(settings, images, decode, str(tmp_path / "b"), [resumed])
    assert len(resumed.losses) == len(whole.losses) // 2
    assert resumed.losses == whole.losses[-len(resumed.losses) :]


def test_batches_of_an_epoch_are_a_function_of_seed_and_epoch():
    settings, images, decode = config(), data(), preprocess.Preprocess(SHAPE)
    whole, steps = training_data.batches(images, decode, settings)
    late, _ = training_data.batches(images, decode, settings, first_epoch=2)
    for (one, label), (two, other) in zip(list(whole)[2 * steps :], late, strict=True):
        np.testing.assert_array_equal(label, other)
        np.testing.assert_array_equal(one[0], two[0])


def test_batches_of_groups_hold_images_of_one_identity_side_by_side_and_every_image_of_the_set():
    images = data(classes=5, per_class=7)
    settings = config(training={"images_per_class": 4, "batch": 8, "epochs": 1})
    found, steps = training_data.batches(images, preprocess.Preprocess(SHAPE), settings)
    labels = np.concatenate([label.numpy() for _, label in found])
    assert steps == 5 and len(labels) == 40  # two groups of four for each of five identities
    assert (labels.reshape(-1, 4) == labels.reshape(-1, 4)[:, :1]).all()
    assert np.bincount(labels).tolist() == [8] * 5


def test_groups_fill_up_with_the_identitys_own_images_and_leave_none_out():
    slots = training_data._slots(np.array([0, 0, 0, 1, 2, 2, 2, 2, 2]), 2)
    assert slots.tolist() == [[0, 1], [2, 0], [3, 3], [4, 5], [6, 7], [8, 4]]


def test_classes_are_counted_as_an_epoch_draws_them():
    images = training_data.TrainingSet(np.array([b"x"] * 6, object), np.array([1, 0, 0, 0, 0, 0]), np.array([5, 1]))
    assert training_data.drawn(images, config_lib.Training()).tolist() == [5, 1]
    assert training_data.drawn(images, config_lib.Training(images_per_class=4)).tolist() == [8, 4]


def first_loss(**loss):
    images, losses = data(), Losses()
    few = training_data.TrainingSet(images.encoded[:20], images.class_ids[:20], np.array([8, 8, 4]))
    settings = config(training={"epochs": 1}, leap=PLAIN, loss=loss)
    loop.train(settings, few, preprocess.Preprocess(SHAPE), None, [losses])
    return losses.losses[0]


@pytest.fixture(scope="module")
def of_cross_entropy():
    return first_loss()


@pytest.mark.parametrize("change", [{"name": "class_balanced"}, {"name": "balanced_softmax"}, {"centre_weight": 0.1}])
def test_each_loss_reaches_the_training(of_cross_entropy, change):
    assert abs(first_loss(**change) - of_cross_entropy) > 1e-3


def test_triplets_on_two_replicas_are_refused(two_replicas):
    settings = config(head={"name": "triplet"}, leap=PLAIN, training={"images_per_class": 2})
    with pytest.raises(errors.UsageError, match="train it on one device"):
        loop.train(settings, data(), preprocess.Preprocess(SHAPE), strategy=two_replicas)


def test_images_that_do_not_fit_the_cache_are_decoded_as_they_are_needed():
    settings, images, decode = config(), data(), preprocess.Preprocess(SHAPE)
    cached, _ = training_data.batches(images, decode, settings)
    streamed, _ = training_data.batches(images, decode, config(training={"cache_megabytes": 0}))
    for (one, _), (two, _) in zip(cached.take(4), streamed.take(4), strict=True):
        np.testing.assert_allclose(one[0], two[0], atol=1e-5)


@pytest.mark.parametrize("name", ["conv4", "noise", "closed, corrected", "directional"])
def test_mixed_precision_keeps_logits_and_memory_in_float32(name):
    settings = config(training={"precision": "mixed_float16", "epochs": 2}, **RESUMED[name])
    trained = loop.train(settings, data(), preprocess.Preprocess(SHAPE))
    assert trained.head.cloud.memory.angles.dtype == tf.float32
    assert all(np.isfinite(weight.numpy()).all() for weight in trained.weights)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_two_replicas_train_with_one_state_and_resume(two_replicas, tmp_path):
    settings, images, decode = config(training={"epochs": 2}), data(), preprocess.Preprocess(SHAPE)
    killed = Killed(1, tmp_path / "a", tmp_path / "b")
    loop.train(settings, images, decode, str(tmp_path / "a"), [killed], two_replicas)
    trained = loop.train(settings, images, decode, str(tmp_path / "b"), strategy=two_replicas)
    seen = [copy.numpy().sum() for copy in two_replicas.experimental_local_results(trained.head.cloud.memory.seen)]
    assert seen == [64, 64]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"head": {"name": "cosfase"}}, "head.name must be one of softmax, .*, not 'cosfase'"),
        ({"leap": {"variant": "some"}}, "leap.variant must be one of none, vanilla, full, .*, not 'some'"),
        ({"model": {"backbone": "vgg"}}, "model.backbone must be one of conv4, .*, not 'vgg'"),
        ({"model": {"weights": "none.h5"}}, "backbone 'conv4' takes none"),
        ({"model": {"backbone": "resnet50", "image": (32, 32, 3), "weights": "none.h5"}}, "no file none.h5"),
        ({"model": {"image": (16, 16)}}, "model.image"),
        ({"model": {"image": (0, 0, 1)}}, "model.image"),
        ({"model": {"backbone": "resnet50", "image": (64, 64, 1)}}, "3 channels, as resnet50 takes"),
        ({"model": {"dimension": 0}}, "model.dimension must be .*, not 0"),
        ({"model": {"weight_decay": -1.0}}, "model.weight_decay must be .*, not -1.0"),
        ({"head": {"name": "softmax"}}, "no angles for a cloud"),
        ({"head": {"scale": float("nan")}}, "head.scale must be .*, not nan"),
        ({"head": {"margin": 2.0}}, "head.margin must be a number from 0 to 1.6, not 2.0"),
        ({"head": {"name": "sphereface"}}, "head.margin must be a number from 1 to 4, not 0.2"),
        ({"head": {"name": "adaface", "options": {"h": 0.3}}}, "head.options has no 'h'; it has concentration"),
        ({"head": {"name": "magface", "options": {"upper_margin": 0.1}}}, "upper_margin >= head.margin"),
        ({"head": {"name": "triplet"}, "leap": PLAIN}, "needs training.images_per_class of 2"),
        ({"head": {"name": "triplet"}}, "no angles for a cloud"),
        ({"loss": {"name": "focal"}}, "loss.name must be one of cross_entropy, .*, not 'focal'"),
        ({"loss": {"beta": 1.0}}, "loss.beta must be .*, not 1.0"),
        ({"loss": {"centre_rate": 0.0}}, "loss.centre_rate must be .*, not 0.0"),
        ({"training": {"images_per_class": 3}}, "8 is not a multiple of images_per_class=3"),
        ({"leap": {"centre_momentum": 1.4}}, "leap.centre_momentum must be .*, not 1.4"),
        ({"leap": {"images_kept": 0}}, "leap.images_kept must be .*, not 0"),
        ({"augment": {"erase": 5.0}}, "augment.erase must be a number from 0 to 1, not 5.0"),
        ({"training": {"epochs": 0}}, "training.epochs must be .*, not 0"),
        ({"training": {"seed": -1}}, "training.seed must be .*, not -1"),
        ({"training": {"rate": float("nan")}}, "training.rate must be .*, not nan"),
        ({"training": {"precision": "fp16"}}, "training.precision must be one of float32, .*, not 'fp16'"),
        ({"training": {"schedule": "triangular", "cycles": 0}}, "training.cycles must be .*, not 0"),
        ({"training": {"schedule": "step", "warmup_epochs": 1.0}}, "has no warm-up"),
        ({"training": {"optimizer": "lion"}}, "training.optimizer must be one of adam, sgd, not 'lion'"),
        ({"training": {"schedule": "linear"}}, "training.schedule must be one of constant, .*, not 'linear'"),
    ],
)
def test_settings_that_cannot_be_are_named(recipe, message):
    with pytest.raises(errors.UsageError, match=message):
        loop.train(config(**recipe), data(), preprocess.Preprocess(SHAPE))


def test_labels_beyond_the_census_are_refused():
    with pytest.raises(errors.WorkError, match="disagree with the census of 2 classes"):
        training_data.TrainingSet(np.array([b"", b""], object), np.array([0, 2]), np.array([1, 1]))


def test_an_unreadable_image_stops_training_with_its_number():
    images = data()
    images.encoded[3] = b"broken"
    with pytest.raises(errors.WorkError, match="image 3 is not decodable"):
        loop.train(config(), images, preprocess.Preprocess(SHAPE))


def test_an_unreadable_image_stops_training_where_images_are_decoded_as_needed():
    images = data()
    images.encoded[3] = b"broken"
    with pytest.raises(errors.WorkError, match="is not decodable"):
        loop.train(config(training={"cache_megabytes": 0}), images, preprocess.Preprocess(SHAPE))


def test_a_training_that_breaks_down_leaves_its_last_good_epoch_and_never_returns(tmp_path):
    class BreakDown(tf.keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                self.model.head.prototypes.assign(self.model.head.prototypes * float("nan"))

    for _ in range(2):
        with pytest.raises(errors.WorkError, match="not finite"):
            loop.train(config(), data(), preprocess.Preprocess(SHAPE), str(tmp_path), [BreakDown()])
    trained = loop.train(config(), data(), preprocess.Preprocess(SHAPE), str(tmp_path))
    assert all(np.isfinite(weight.numpy()).all() for weight in trained.weights)


def test_a_training_is_named_by_its_images_not_by_their_number():
    one, other = data(), data()
    other.encoded[[0, 8]] = other.encoded[[8, 0]]
    assert loop._digest("{}", one) == loop._digest("{}", data()) != loop._digest("{}", other)


def test_exported_embedder_of_a_trained_classifier_holds_no_state_of_training(tmp_path):
    trained = loop.train(config(training={"epochs": 1}), data(), preprocess.Preprocess(SHAPE))
    saved_model.export(trained.embedder, preprocess.Preprocess(SHAPE), str(tmp_path / "1"))
    file = (tmp_path / "1" / "saved_model.pb").read_bytes()
    [graph] = [each.graph_def for each in saved_model_pb2.SavedModel.FromString(file).meta_graphs]
    constants = [node for node in graph.node if node.op == "Const"]
    shapes = [tuple(size.size for size in node.attr["value"].tensor.tensor_shape.dim) for node in constants]
    assert set(shapes) >= {tuple(weight.shape) for weight in trained.embedder.weights}
    assert tuple(trained.head.cloud.memory.angles.shape) not in shapes
    assert not [node.name for node in constants if "memory" in node.name or "optimizer" in node.name]


def test_weight_decay_reaches_every_convolution_of_every_backbone():
    for name, shape in (("conv4", (16, 16, 1)), ("resnet18", (16, 16, 1)), ("resnet50", (32, 32, 3))):
        embedder = backbones.build_embedder(name, shape, 8, weight_decay=1e-3)
        layers = [layer for layer in embedder._flatten_layers() if isinstance(layer, tf.keras.layers.Conv2D)]
        assert layers and all(layer.kernel_regularizer for layer in layers), name


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    loop.train(config(), data(), preprocess.Preprocess(SHAPE), str(tmp_path))
    with pytest.raises(errors.WorkError, match="another model"):
        loop.train(config(model={"dimension": 6}), data(), preprocess.Preprocess(SHAPE), str(tmp_path))


@pytest.mark.parametrize(
    "change, told",
    [
        ({"model": {"backbone": "resnet50"}}, "model.weights is empty: resnet50 learns from random .* ImageNet"),
        ({"leap": {"start_epoch": 9}}, "leap.start_epoch=9 is not below .*: the cloud never starts"),
        ({"loss": {"name": "class_balanced", "start_epoch": 9}}, "the class-balanced weights never begin"),
        (
            {"head": {"scale": 24.0}, "leap": {"variant": "noise_all", "form": "closed", "width": 0.3}},
            r"leap.width=0.3 with head.scale=24: scale x width\^2 is 2.16, .* take a width of at most 0.20",
        ),
    ],
)
def test_what_would_have_no_effect_or_a_wrong_one_is_warned_of_before_training(change, told, caplog):
    with caplog.at_level(logging.WARNING, "longtail"):
        loop._check_plan(config(**change), None, np.array([8, 3]), 1, 8)
    assert len(caplog.messages) == 1 and re.search(told, caplog.messages[0])


def test_a_plan_of_sound_settings_is_not_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "longtail"):
        loop._check_plan(config(leap={"variant": "noise_all", "form": "closed"}), None, np.array([8, 3]), 1, 8)
    assert not caplog.messages


MADE_FILES = {
    "market1501_h20s4": ("bounding_box_train/0002_c1s1_000451_03.jpg", "bounding_box_train/0007_c3s2_000001_00.jpg"),
    "dukemtmc_h20s4": ("bounding_box_train/0002_c1_f0044158.jpg", "bounding_box_train/0007_c3_f0011.jpg"),
    "msmt17": ("train/0000/0000_000_01_0303morning_0008_0.jpg", "train/0001/0001_000_03_0303noon_0002_1.jpg"),
    "face_h3k_t10k": ("m.0107_f/1.jpg", "m.0a0f/17.jpg"),
    "ftl_ms1m": ("m.0107_f/1.jpg", "m.0a0f/17.jpg"),
}


@pytest.mark.parametrize("recipe", MADE_FILES)
def test_recipes_for_data_we_do_not_have_take_a_step_on_made_images_in_their_layout(recipe, tmp_path):
    from longtail.components.data import sources
    from longtail.pipeline import recipe as recipe_lib

    few = ["training.epochs=1", "leap.start_epoch=0", "transfer.alternations=1", "transfer.steps=1"]
    batch = 2 * (recipe_lib.load(recipe).training.images_per_class or 1)  # P x K, of both identities
    loaded = recipe_lib.load(recipe, [*few, f"training.batch={batch}", "model.image=[32,32,3]"])
    rng = np.random.default_rng(0)
    for name in MADE_FILES[recipe]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, loaded.model.image).astype(np.uint8)
        (tmp_path / name).write_bytes(tf.io.encode_jpeg(pixels).numpy())
    lists = {"train": [name.partition("/")[2] for name in MADE_FILES[recipe]], "query": [], "gallery": []}
    for name, paths in lists.items() if loaded.data.layout == "msmt17" else ():
        (tmp_path / f"list_{name}.txt").write_text("".join(f"{path} 0\n" for path in paths))
    source = sources.open_source(str(tmp_path), loaded.data.layout)
    items = source.items()
    assert len({item.identity for item in items}) == 2
    assert [item.camera for item in items] == ([-1, -1] if loaded.data.layout == "folder" else [1, 3])
    if recipe in ("dukemtmc_h20s4", "msmt17"):  # the training is that of Market-1501, whose step is long
        assert recipe_lib.load(recipe).train_config() == recipe_lib.load("market1501_h20s4").train_config()
        return
    encoded = np.array([source.read(item) for item in items], object)
    images = training_data.TrainingSet(encoded, np.array([0, 1]), np.array([30, 4]))
    losses = Losses()
    trained = loop.train(
        loaded.train_config(), images, preprocess.Preprocess(tuple(loaded.model.image)), None, [losses]
    )
    stages = 3 if loaded.transfer.variant == "transfer" else 1  # a step of each
    assert len(losses.losses) == stages and np.isfinite(losses.losses).all()
    assert trained.embedder.output_shape == (None, loaded.model.dimension)

"""The training loop: once as TFX's `run_fn`, once as a plain function, the same code under both."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.models import backbones
from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import losses
from longtail.models import schedules
from longtail.models import settings
from longtail.models.export import saved_model
from longtail.models.export import signatures
from longtail.models.feature_transfer import alternation
from longtail.models.feature_transfer import stages as stages_lib
from longtail.models.feature_transfer import statistics
from longtail.models.feature_transfer import viewer
from longtail.models.training import callbacks as callbacks_lib
from longtail.models.training import checkpoints as checkpoints_lib
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data
from longtail.models.training import tail_health
from longtail.models.training import warm_start
from longtail.models.training import workers

log = logging.getLogger("longtail")

_EVENTS = "events"  # beside the checkpoints: TensorBoard's files of every session of a training
_FEW_STEPS = 300  # below it a training from scratch has hardly begun


def train(
    config: config_lib.TrainConfig,
    data: training_data.TrainingSet,
    preprocess: Callable,
    checkpoints: str | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    strategy: tf.distribute.Strategy | None = None,
    board: str | None = None,
    warm: warm_start.WarmStart | None = None,
) -> classifier_lib.Classifier:
    """Trains a classifier; goes on from the last epoch saved in `checkpoints`.

    Args:
      config: what to train, and how.
      data: the images; N >= 2.
      preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status).
      checkpoints: folder of this very training, or None to keep none.
      callbacks: more Keras callbacks.
      strategy: where to train; None for the default.
      board: folder for TensorBoard's event files, or None to write none.
      warm: what it goes on from; None for what `config.training.start_from` names, if that is a folder.

    Returns:
      The trained classifier.

    Raises:
      errors.UsageError: a setting out of range, a model that it cannot start from.
      errors.WorkError: unreadable images, a checkpoint or a start that is damaged or of another model.
      errors.Diverged: a loss or weights that are not finite.
    """
    check.check(config)
    warm = warm or warm_start.find(config)
    config = warm.config if warm else config
    tf.keras.utils.set_random_seed(config.training.seed)
    tf.keras.mixed_precision.set_global_policy(config.training.precision)
    try:
        return _fit(config, warm, data, preprocess, checkpoints, list(callbacks), strategy, board)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def _fit(config, warm, data, preprocess, checkpoints, callbacks, strategy, board) -> classifier_lib.Classifier:
    training, transfer = config.training, config.transfer
    strategy = strategy or tf.distribute.get_strategy()
    batch, steps = training_data.steps(data, training)
    _check_plan(config, warm, data.counts, strategy.num_replicas_in_sync, batch)
    _say_steps(steps * training.epochs + transfer.steps * transfer.phases, steps, batch)
    classifier = _compiled(config, data, strategy, steps)
    stages = stages_lib.Stages(classifier, config, classifier.loss) if transfer.phases else None

    def called(each: int) -> list[tf.keras.callbacks.Callback]:
        return [*callbacks, *callbacks_lib.standard_callbacks(config, data.counts, each, batch, board)]

    with checkpoints_lib.restored(classifier, checkpoints, strategy, stages and stages.state) as restored, _one_line():
        done, savers = restored
        if done:
            log.info("going on after epoch %d of %d", done, config.epochs)
        elif warm:
            warm.carry(classifier, data, preprocess)
        images = alternation.Images(config, data, preprocess)
        precise = [alternation.PreciseBatchNorm(classifier, images)] if stages else []
        if done < training.epochs:
            dataset, _ = images.epochs(done, training.epochs - done)
            rest = {"initial_epoch": done, "epochs": training.epochs, "steps_per_epoch": steps}
            classifier.fit(dataset, callbacks=[*precise, *called(steps), *savers], verbose=0, **rest)
        if stages and done < config.epochs and not classifier.stop_training:
            alternating = alternation.Alternation(classifier, stages, images, *precise)
            alternating.run(done, [*called(transfer.steps), *savers])
    if not all(np.isfinite(weight.numpy()).all() for weight in classifier.weights):
        raise errors.Diverged("training: loss or weights are not finite; lower training.rate or head.scale")
    return classifier


def _compiled(config, data, strategy, steps) -> classifier_lib.Classifier:
    schedule = schedules.SCHEDULES[config.training.schedule](config.training, steps)
    with strategy.scope():
        classifier = classifier_lib.build_classifier(config, data.counts, steps)
        optimizer = schedules.OPTIMIZERS[config.training.optimizer](schedule)
        drawn = training_data.drawn(data, config.training)
        classifier.compile(optimizer, losses.build_loss(config, drawn, optimizer.iterations, steps))
        classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def _check_plan(config: config_lib.TrainConfig, warm, counts: np.ndarray, devices: int, batch: int) -> None:
    """Refuses what such classes, or so many devices with such a batch, cannot do; says what would have no effect."""
    leap, loss, epochs = config.leap, config.loss, config.training.epochs
    if leap.variant != "none" and leap.start_epoch >= epochs:
        log.warning(
            "leap.start_epoch=%d is not below training.epochs=%d: the cloud never starts, this trains the plain head",
            leap.start_epoch,
            epochs,
        )
    turns_over = config.head.scale * leap.width**2
    if leap.variant in config_lib.NOISES and leap.form == "closed" and turns_over > 1.0:
        log.warning(
            "leap.width=%g with head.scale=%g: scale x width^2 is %.2f, and above 1 the closed form draws the "
            "nearest of the other classes nearer; take a width of at most %.2f",
            *(leap.width, config.head.scale, turns_over, config.head.scale**-0.5),
        )
    model = config.model
    if backbones.BACKBONES[model.backbone].takes_weights and not model.weights and not warm:
        log.warning(
            "model.weights is empty: %s learns from random weights; the papers' re-ID figures are of one trained on "
            "ImageNet",
            model.backbone,
        )
    if loss.name == "class_balanced" and loss.start_epoch >= epochs:
        log.warning(
            "loss.start_epoch=%d is not below training.epochs=%d: the class-balanced weights never begin",
            loss.start_epoch,
            epochs,
        )
    if config.transfer.phases:
        statistics.check_classes(counts, leap.head_threshold)
    if config.transfer.phases and devices > 1:
        raise errors.UsageError("transfer.variant: stages 1 and 2 run on one device; train on one, or set it to none")
    if config.head.name == "triplet" and devices > 1:
        raise errors.UsageError("head.name: triplet mines whole batches, which replicas divide; train it on one device")
    if config.training.gallery_momentum and counts.min() < 2:
        log.warning("training.gallery_momentum: of identities of one image, that image itself is their prototype")
    if config.training.gallery_momentum and devices > 1:
        raise errors.UsageError(
            "training.gallery_momentum: semi-Siamese training runs on one device; train on one, or set it to 0"
        )
    if batch % devices:
        raise errors.UsageError(
            f"training.batch: {devices} devices cannot share a batch of {batch} images evenly; give a multiple"
        )


def _say_steps(total: int, steps: int, batch: int) -> None:
    log.info("%d steps an epoch, %d in all, of %d images each", steps, total, batch)
    if total < _FEW_STEPS:
        log.warning("%d steps in all: too few to learn from; raise training.epochs, or lower training.batch", total)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Says in one line what TensorFlow says in a hundred."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if training_data.UNREADABLE not in error.message:
            raise
        raise errors.WorkError(f"{training_data.UNREADABLE}; run ingestion again") from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        log.warning("%s", error.message)
        raise errors.WorkError(
            "training: another worker or the storage is gone; start all workers again: they go on after the last "
            "saved epoch"
        ) from error


def _digest(config: str, data: training_data.TrainingSet, start: str = "") -> str:
    """Names a training by its settings, the digest of its start and its data, image by image: O(encoded bytes)."""
    digest = hashlib.sha256(config.encode() + start.encode())
    digest.update(data.class_ids.tobytes())
    digest.update(data.counts.tobytes())
    digest.update(b"" if data.yaw is None else data.yaw.tobytes())
    for image in data.encoded:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()[:16]


class TransformGraph(tf.Module):
    """Transform's own graph as `preprocess`: encoded bytes in, normalised pixels and status out."""

    def __init__(self, layer: tf.keras.layers.Layer, feature: str, image_shape: Sequence[int]):
        super().__init__()
        self.layer = layer
        self._feature = feature
        self._image_shape = image_shape

    def __call__(self, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = self.layer({self._feature: encoded[:, tf.newaxis]})
        pixels = tf.ensure_shape(outputs["pixels"], [None, *self._image_shape])
        return pixels, tf.cast(tf.reshape(outputs["status"], [-1]), tf.int32)


def run_fn(fn_args: Any) -> None:
    """TFX's entry: trains on the rebalanced examples and exports the SavedModel.

    `fn_args.custom_config` holds `config` (a `config_lib.TrainConfig` as JSON text), `card` (JSON text) and
    `checkpoints`, a folder that outlives the execution: a killed run finds its last epoch there, under a name made
    of the settings, the data and the start. `fn_args.census_path` is the rebalancer's census, `fn_args.base_model`
    the folder of the last blessed model, empty where there is none. Where TF_CONFIG names several
    workers, each runs this with the same arguments.
    """
    import tensorflow_transform as tft  # a heavy import, and only TFX comes this way

    strategy = workers.strategy()  # before all else that uses TensorFlow
    custom = fn_args.custom_config
    config = settings.read(config_lib.TrainConfig, json.loads(custom["config"]), "trainer config")
    with tf.io.gfile.GFile(fn_args.census_path) as file:
        census = json.load(file)
    yaw_pattern = config.transfer.yaw_pattern if config.transfer.phases else ""
    data, _ = training_data.hold_out(training_data.read_training_set(fn_args.train_files, census, yaw_pattern), config)
    graph = tft.TFTransformOutput(fn_args.transform_graph_path).transform_features_layer()
    preprocess = TransformGraph(graph, "image/encoded", config.model.image)
    names = [entry["identity"] for entry in census["classes"]]
    warm = warm_start.find(config, fn_args.base_model or "", names)
    digest = _digest(custom["config"], data, warm.start.digest if warm else "")
    checkpoints = os.path.join(custom["checkpoints"], digest)
    log.info("%d images of %d classes", len(data.encoded), len(data.counts))
    card = {**json.loads(custom.get("card", "{}")), "training": digest}
    places = (checkpoints, fn_args.serving_model_dir)
    train_and_export(config, data, preprocess, *places, strategy, card, fn_args.model_run_dir, names, warm)


def train_and_export(
    config: config_lib.TrainConfig,
    data: training_data.TrainingSet,
    preprocess: Callable,
    checkpoints: str,
    path: str,
    strategy: tf.distribute.Strategy | None = None,
    card: dict[str, Any] | None = None,
    board: str | None = None,
    identities: Sequence[str] = (),
    warm: warm_start.WarmStart | None = None,
) -> classifier_lib.Classifier:
    """Trains, exports the embedder to `path`, and lets the checkpoints go. Arguments are those of `train`.

    `identities` are the classes' names: with them beside the model a later training can go on from more than its
    embedder. `board` gets the event files of all sessions, which lie beside the checkpoints until then; beside them
    lies what the analyses of feature transfer read, with the names too.
    Of several workers all come here, and only the chief's files are kept. None goes on before the model is there.
    """
    strategy = strategy or tf.distribute.get_strategy()
    is_chief = workers.is_chief(strategy)
    warm = warm or warm_start.find(config, identities=identities)
    events = os.path.join(checkpoints, _EVENTS) if is_chief and board else None
    classifier = train(config, data, preprocess, checkpoints, strategy=strategy, board=events, warm=warm)
    card = {
        **(card or {}),
        "config": dataclasses.asdict(config),
        "images": len(data.encoded),
        **({"start": warm.told()} if warm else {}),
        "tail_health": tail_health.tail_health(classifier.head, data.counts, config.leap.head_threshold),
    }
    beside = {}
    if identities:
        beside[signatures.CLASSES_FILE] = warm_start.pack(classifier, data.counts, identities)
    with workers.place(strategy, path) as own:
        saved_model.export(classifier.embedder, preprocess, own, card, beside=beside, rich=config.model.rich)
    if events and board:
        _copy(events, board)
    if is_chief and board and config.model.filter:
        folder = os.path.join(board, viewer.FOLDER)
        viewer.save(classifier, config, data, preprocess, identities, folder)
    if is_chief:
        tf.io.gfile.rmtree(checkpoints)  # only now is there nothing to go on from
    workers.agreed(strategy, 0)
    return classifier


def _copy(source: str, target: str) -> None:
    """Copies a folder's files, with the folders below it."""
    for folder, _, names in tf.io.gfile.walk(source):
        place = os.path.join(target, os.path.relpath(folder, source))
        tf.io.gfile.makedirs(place)
        for name in names:
            tf.io.gfile.copy(os.path.join(folder, name), os.path.join(place, name), overwrite=True)

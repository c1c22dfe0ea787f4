"""What the stages of feature transfer cost: a step of each beside one of stage 0, which is ordinary training."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from longtail.benchmarks import timing
from longtail.models import config as config_lib
from longtail.models import losses
from longtail.models.feature_transfer import stages as stages_lib
from longtail.models.training import classifier as classifier_lib

STAGE_1_TARGET = 0.25  # of a step of stage 0

_HEAD_IMAGES, _TAIL_IMAGES, _HEAD_SHARE = 15, 4, 7  # images of head and tail classes; one class in so many is head


def _config(backbone: str, image: tuple[int, ...], width: float, batch: int, joined: bool) -> config_lib.TrainConfig:
    return config_lib.TrainConfig(
        model=config_lib.Model(backbone, image=image, dimension=128, filter=True, width=width),
        head=config_lib.Head("softmax", 1.0, 0.0, {"bias": 0}),
        loss=config_lib.Loss(metric_weight=0.01, reconstruction_weight=1.0),
        transfer=config_lib.Transfer("transfer", rate=3e-4, joined=joined),
        training=config_lib.Training(batch=batch),
    )


def _works(config: config_lib.TrainConfig, classes: int) -> dict[str, Callable[[], object]]:
    """A step of each stage; each ends with its work."""
    rng = np.random.default_rng(0)
    is_head = np.arange(classes) < max(1, classes // _HEAD_SHARE)
    counts = np.where(is_head, _HEAD_IMAGES, _TAIL_IMAGES)
    labels = np.repeat(np.arange(classes), counts)
    classifier = classifier_lib.build_classifier(config, counts, 1)
    loss = losses.build_loss(config, counts, tf.Variable(0, dtype=tf.int64), 1)
    classifier.compile(tf.keras.optimizers.Adam(config.training.rate), loss)
    classifier.optimizer.build(classifier.trainable_variables)
    stages = stages_lib.Stages(classifier, config, loss)
    dimension = classifier.embedder.encoder.output_shape[-1]
    rich = rng.normal(size=(len(labels), dimension)).astype(np.float32)
    basis, _ = np.linalg.qr(rng.normal(size=(dimension, max(1, dimension // 2))))
    stages.known(rng.normal(size=(classes, dimension)), basis)
    rows = stages_lib.draw(np.ones(len(labels), bool), labels, is_head, (1, config.training.batch), [0])
    first = tuple(tf.constant(kind[0]) for kind in rows)
    images = tf.random.stateless_uniform([config.training.batch, *config.model.image], [0, 0], -1.0, 1.0)
    asked = tf.constant(labels[rows.tail[0]], tf.int64)
    fit = tf.function(lambda: classifier.train_step(((images, asked), asked))["loss"])
    every, all_labels, seed = tf.constant(rich), tf.constant(labels, tf.int64), tf.constant([0, 0], tf.int64)
    return {
        "stage 0": lambda: fit().numpy(),
        "stage 1": lambda: stages.step_1(every, all_labels, first, seed).numpy(),
        "stage 2": lambda: stages.step_2(images, asked).numpy(),
    }


def run(backbone: str, side: int, channels: int, width: float, classes: int, batch: int, rounds: int) -> dict:
    """Times the stages in turns.

    Returns:
      `bench`, `machine`, and `results` as `timing.row` makes them: milliseconds a step, ratio to stage 0's.
    """
    image = (side, side, channels)
    works = _works(_config(backbone, image, width, batch, joined=False), classes)
    joined = _works(_config(backbone, image, width, batch, joined=True), classes)
    works["stage 1, its three batches joined"] = joined["stage 1"]
    seconds = timing.in_turns(works, rounds)
    rows = []
    for name, found in seconds.items():
        ratio = None if name == "stage 0" else float(np.median(found / seconds["stage 0"]))
        target = STAGE_1_TARGET if name.startswith("stage 1") else None
        rows.append(timing.row(f"{name}: a step", 1e3 * float(np.median(found)), "ms", ratio, target))
    return {"bench": "transfer", "machine": timing.machine(), "results": rows}

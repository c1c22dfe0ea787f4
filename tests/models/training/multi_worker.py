"""One of several workers, started by test_multi_worker.py: trains, and tells in a file what it saw.

Usage: python -m tests.models.training.multi_worker FOLDER, with TF_CONFIG in the environment.
"""

import logging
import os
import sys

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.leap import angle_memory
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.models.training import workers

SHAPE = (16, 16, 1)
CLASSES, PER_CLASS = 4, 8
COUNTS = [6, 3, 4]
BATCHES = 12


def settings():
    """Two epochs, the second with a cloud; no augmentation that takes seconds to import."""
    return config_lib.TrainConfig(
        model=config_lib.Model(image=SHAPE, dimension=8),
        leap=config_lib.Leap(variant="full", start_epoch=1),
        augment=config_lib.Augmentation(flip=True, erase=0.2),
        training=config_lib.Training(epochs=2, batch=8, rate=0.003),
        head=config_lib.Head(),
        loss=config_lib.Loss(),
    )


def images():
    """Noise, a few images a class."""
    pixels = np.random.default_rng(0).integers(0, 255, (CLASSES * PER_CLASS, *SHAPE)).astype(np.uint8)
    encoded = np.array([tf.io.encode_png(one).numpy() for one in pixels], object)
    return training_data.TrainingSet(encoded, np.repeat(np.arange(CLASSES), PER_CLASS), np.full(CLASSES, PER_CLASS))


class Losses(tf.keras.callbacks.Callback):
    """Keeps each step's loss; dies at the start of the second epoch, as a killed process would."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            raise KeyboardInterrupt


def stream():
    """Batches of features and labels; each worker sees the rows that are its own."""
    rng = np.random.default_rng(0)
    for _ in range(BATCHES):
        yield rng.normal(size=[8, 5]).astype(np.float32), rng.integers(0, len(COUNTS), 8)


def state(memory):
    """All that a memory holds, by name."""
    names = ("centres", "angles", "seen", "sums", "squares", "totals")
    return {name: getattr(memory, name).numpy() for name in names}


def fill_memory(strategy, share):
    """The state of an angle memory of which this worker saw its rows alone."""
    with strategy.scope():
        memory = angle_memory.AngleMemory(COUNTS)
        memory.build([None, 5])

    @tf.function
    def step(features, labels):
        strategy.run(memory, (features, labels))

    def own(rows):
        return strategy.experimental_distribute_values_from_function(lambda _: tf.constant(np.split(rows, 2)[share]))

    for features, labels in stream():
        step(own(features), own(labels))
    return state(memory)


def main(folder: str) -> None:
    """Trains, dies after an epoch, is refused without the others' checkpoints, goes on, and exports."""
    strategy = workers.strategy()
    index = strategy.cluster_resolver.task_id
    found = {f"memory_{name}": value for name, value in fill_memory(strategy, index).items()}
    config, data, decode = settings(), images(), preprocess.Preprocess(SHAPE)
    kept, losses = os.path.join(folder, "checkpoints"), Losses()
    try:
        loop.train(config, data, decode, kept, [losses], strategy)
    except KeyboardInterrupt:
        found |= {"died": True, "losses": losses.losses, "kept": sorted(os.listdir(kept))}
    try:
        elsewhere = kept if workers.is_chief(strategy) else os.path.join(folder, "own")
        loop.train(config, data, decode, elsewhere, strategy=strategy)
    except errors.WorkError as error:
        found["refused"] = str(error)
    trained = loop.train_and_export(config, data, decode, kept, os.path.join(folder, "model"), strategy)
    found["is_there"] = os.path.isdir(os.path.join(folder, "model"))
    found |= {f"weight_{number}": weight.numpy() for number, weight in enumerate(trained.weights)}
    found["seen"] = trained.head.cloud.memory.seen
    found["embedding"] = trained.embedder(decode(tf.constant(data.encoded))[0], training=False)
    np.savez(os.path.join(folder, f"worker-{index}.npz"), **found)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, force=True)
    main(sys.argv[1])

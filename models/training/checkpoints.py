"""What a killed training goes on from: everything it is, saved at the end of each epoch."""

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models.training import workers


@contextlib.contextmanager
def restored(
    classifier: tf.keras.Model,
    directory: str | None,
    strategy: tf.distribute.Strategy,
    state: tf.train.Checkpoint | None = None,
) -> Iterator[tuple[int, list[tf.keras.callbacks.Callback]]]:
    """Restores what was saved in `directory`: how many epochs are done, and what saves the next. None saves nothing.

    `state` is whatever else the training is, beside the classifier and its optimiser.

    Raises:
      errors.WorkError: what was saved is damaged, or not all workers find it.
    """
    if not directory:
        yield 0, []
        return
    with workers.place(strategy, directory) as own:
        saver = EpochCheckpoint(classifier, own, state)
        done = saver.restore(directory)
        if not workers.agreed(strategy, done):
            raise errors.WorkError(
                f"{directory}: this worker finds {done} finished epochs there and another worker does not; "
                "all must share that folder"
            )
        yield done, [saver]


class EpochCheckpoint(tf.keras.callbacks.Callback):
    """Saves everything a training is at the end of each epoch, and restores it."""

    def __init__(self, classifier: tf.keras.Model, directory: str, state: tf.train.Checkpoint | None = None):
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        parts = {"classifier": classifier, "optimizer": classifier.optimizer, "epoch": self.epoch}
        checkpoint = tf.train.Checkpoint(**parts, **({"state": state} if state else {}))
        self._manager = tf.train.CheckpointManager(checkpoint, directory, max_to_keep=1)

    def restore(self, directory: str) -> int:
        """Restores the last saved epoch; returns how many epochs are done, 0 where nothing was saved."""
        path = tf.train.latest_checkpoint(directory)
        if path is None:
            return 0
        try:
            self._manager.checkpoint.restore(path).assert_existing_objects_matched()
        except (ValueError, AssertionError, IndexError, tf.errors.OpError) as error:
            raise errors.WorkError(
                f"{path}: damaged, or of another model ({str(error).splitlines()[0]}); delete its folder"
            ) from error
        return int(self.epoch.numpy())

    def on_epoch_end(self, epoch, logs=None):
        if not np.isfinite(logs["loss"]):
            return  # the last good epoch must not give way to a broken one
        self.epoch.assign(epoch + 1)
        self._manager.save()

"""What happens at the end of an epoch: sums made anew, the health of the tail read, a line for people."""

import logging
import time

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models.training import position
from longtail.models.training import tail_health

log = logging.getLogger("longtail")


class Recompute(tf.keras.callbacks.Callback):
    """Makes the running sums of the angle memory anew at the end of each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if self.model.head.cloud is not None:
            self.model.head.cloud.memory.recompute()


def standard_callbacks(
    config: config_lib.TrainConfig, counts: np.ndarray, steps: int, batch: int, board: str | None = None
) -> list[tf.keras.callbacks.Callback]:
    """What every training calls, in the order in which one needs what another did.

    Args:
      config: of the training.
      counts: int [C], K_i: distinct images of each class.
      steps: of an epoch.
      batch: images in a step.
      board: TensorBoard's folder, or None to write nothing.
    """
    health = tail_health.TailHealth(counts, config.leap.head_threshold, board)
    boards = [tf.keras.callbacks.TensorBoard(board, profile_batch=0)] if board else []
    stop_on_nan = tf.keras.callbacks.TerminateOnNaN()
    return [*boards, stop_on_nan, Recompute(), health, Progress(config, steps, batch, health)]


class Progress(tf.keras.callbacks.Callback):
    """One line an epoch for people: loss, speed, time left, whether the cloud is on, and how head and tail fare.

    A phase of feature transfer is an epoch too, of `transfer.steps`. `health` is called before this one. Every step is
    told to `position`'s watchers.
    """

    def __init__(self, config: config_lib.TrainConfig, steps: int, batch: int, health: tail_health.TailHealth):
        super().__init__()
        self._config, self._steps, self._batch, self._health = config, steps, batch, health
        self._epochs = config.epochs
        self._begun = 0.0  # when the first step of this process was done, later its first epoch: both also compile
        self._timed = -1  # steps since

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._started = epoch, time.monotonic()
        self._tell(epoch, 0)

    def on_train_batch_end(self, batch, logs=None):
        self._timed += 1
        self._begun = self._begun or time.monotonic()
        self._tell(self._epoch, batch + 1)

    def on_train_end(self, logs=None):
        if self._epoch + 1 == self._epochs and not self.model.stop_training:
            self._tell(self._epochs, 0)

    def _tell(self, done, step):
        position.tell(position.Position(done, self._epochs, step, self._steps))

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        log.info(
            "%s  loss %.4f  %.0f images/s%s%s",
            self._name(epoch),
            logs["loss"],
            self._steps * self._batch / (now - self._started),
            self._left(now, self._steps_after(epoch)),
            self._cloud(epoch),
        )
        if self._timed < self._steps:
            self._begun, self._timed = now, 0

    def _name(self, epoch):
        epochs, transfer = self._config.training.epochs, self._config.transfer
        if epoch < epochs:
            return f"epoch {epoch + 1}/{epochs}  step {(epoch + 1) * self._steps}/{epochs * self._steps}"
        stage, alternation = transfer.stage(epoch - epochs)
        return f"stage {stage} of alternation {alternation}/{transfer.alternations}"

    def _steps_after(self, epoch):
        left, transfer = self._epochs - epoch - 1, self._config.transfer
        phases = min(left, transfer.phases)
        return (left - phases) * self._steps + phases * transfer.steps

    def _left(self, now, steps):
        if not steps or not self._timed:
            return ""
        return f"  {position.duration(steps * (now - self._begun) / self._timed)} left"

    def _cloud(self, epoch):
        leap, health = self._config.leap, self._health.latest
        if leap.variant == "none" or not health:
            return ""
        shown = "off"
        if epoch >= leap.start_epoch:
            shown = f"{leap.variant} on {100 * health['samples_with_cloud']:.0f}% of samples"
        groups = {name: health.get(name, {}).get("angular_variance") for name in ("head", "tail")}
        known = "  ".join(f"{name} {value:.4f}" for name, value in groups.items() if value is not None)
        return f"  cloud {shown}" + (f"  variance {known}" if known else "")

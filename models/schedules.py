"""Learning-rate schedules by the names recipes use: each a function of a training's settings and its steps an epoch."""

from collections.abc import Callable

import tensorflow as tf

from longtail.models import config as config_lib

_DROPS = (0.4, 0.7)  # of all steps


def _constant(training: config_lib.Training, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The rate all along."""
    total = steps * training.epochs
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay([total], [training.rate, training.rate])


def _cosine(training: config_lib.Training, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """To zero along half a cosine, after a linear rise from zero where one is asked for."""
    total, rise = steps * training.epochs, int(training.warmup_epochs * steps)
    if not rise:
        return tf.keras.optimizers.schedules.CosineDecay(training.rate, total)
    return tf.keras.optimizers.schedules.CosineDecay(
        0.0, total - rise, warmup_target=training.rate, warmup_steps=rise
    )


def _step(training: config_lib.Training, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """A tenth at each of `_DROPS`."""
    at = [int(steps * training.epochs * drop) for drop in _DROPS]
    rates = [training.rate * 0.1**drops for drops in range(len(at) + 1)]
    return tf.keras.optimizers.schedules.PiecewiseConstantDecay(at, rates)


def _triangular(training: config_lib.Training, steps: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """`training.cycles` triangles from a tenth of the rate up to it: the policy of the face recipe."""
    import tensorflow_addons as tfa  # Addons is at its end of life: imported where it is used, never further

    return tfa.optimizers.TriangularCyclicalLearningRate(
        initial_learning_rate=training.rate / 10.0,
        maximal_learning_rate=training.rate,
        step_size=max(steps * training.epochs // (2 * training.cycles), 1),
    )


SCHEDULES: dict[str, Callable[[config_lib.Training, int], tf.keras.optimizers.schedules.LearningRateSchedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
    "triangular": _triangular,
}
# Of them, those that `training.warmup_epochs` means something to.
WARMED = ("cosine",)

OPTIMIZERS: dict[str, Callable[[tf.keras.optimizers.schedules.LearningRateSchedule], tf.keras.optimizers.Optimizer]] = {
    "adam": tf.keras.optimizers.Adam,
    "sgd": lambda schedule: tf.keras.optimizers.SGD(schedule, momentum=0.9),
}

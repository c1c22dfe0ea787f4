"""Learning-rate schedules by the names recipes use."""

import tensorflow as tf

from longtail.models import errors

SCHEDULES = ("constant", "cosine", "step", "triangular")


def build_schedule(
    name: str,
    rate: float,
    total_steps: int,
    warmup_steps: int = 0,
    cycles: int = 3,
    drops: tuple[float, ...] = (0.4, 0.7),
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """Builds a schedule over `total_steps` optimiser steps.

    Args:
      name: "constant", "cosine" (to zero), "step" (a tenth at each of `drops`) or "triangular" (`cycles` triangles
        from a tenth of `rate` up to `rate`: the policy of the face recipe).
      rate: the highest learning rate.
      total_steps: optimiser steps of the whole training.
      warmup_steps: linear rise from zero before a cosine.
      cycles: triangles of the triangular policy.
      drops: where a step schedule drops, as fractions of `total_steps`.

    Raises:
      errors.UsageError: unknown name, or a number out of range.

    Example:

    >>> schedule = schedules.build_schedule("cosine", rate=0.1, total_steps=10)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10)]
    [0.1, 0.05, 0.0]
    """
    if rate <= 0 or total_steps < 1 or not 0 <= warmup_steps < max(total_steps, 1):
        raise errors.UsageError(
            f"`rate` must be positive and 0 <= warm-up < steps. Received: {rate}, {warmup_steps}, {total_steps}"
        )
    if warmup_steps and name != "cosine":
        raise errors.UsageError(f"training.warmup_epochs: the {name!r} schedule has no warm-up; set it to 0")
    schedules = tf.keras.optimizers.schedules
    if name == "constant":
        return schedules.PiecewiseConstantDecay([total_steps], [rate, rate])
    if name == "cosine":
        if warmup_steps == 0:
            return schedules.CosineDecay(rate, total_steps)
        return schedules.CosineDecay(
            0.0, total_steps - warmup_steps, warmup_target=rate, warmup_steps=warmup_steps
        )
    if name == "step":
        at = [int(total_steps * drop) for drop in drops]
        return schedules.PiecewiseConstantDecay(at, [rate * 0.1**i for i in range(len(at) + 1)])
    if name == "triangular":
        import tensorflow_addons as tfa  # Addons is at its end of life: imported where it is used, never further

        return tfa.optimizers.TriangularCyclicalLearningRate(
            initial_learning_rate=rate / 10.0,
            maximal_learning_rate=rate,
            step_size=max(total_steps // (2 * cycles), 1),
        )
    raise errors.UsageError(f"unknown schedule {name!r}; one of {', '.join(SCHEDULES)}")

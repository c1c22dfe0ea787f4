"""The one check of a training's settings: each within its range, and all of them going together."""

import dataclasses
from typing import Any

import tensorflow as tf

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.models import losses
from longtail.models import schedules
from longtail.models import settings
from longtail.models.export import starts

_LARGEST_SIDE = 4096
# What `small_classes.factors` plays through in a second or two.
_MOST_CORRECTED = 30
# Heads that may be asked twice a step: of one prototype a class, with no state and no loss of their own.
_OF_PAIRS = ("normface", "sphereface", "cosface", "arcface", "ldam")


@dataclasses.dataclass(frozen=True)
class _Image:
    """[height, width, channels], as a backbone takes it."""

    name: str

    def __str__(self):
        backbone = backbones.BACKBONES[self.name]
        return (
            f"[height, width, channels] of {backbone.least_side} to {_LARGEST_SIDE} pixels a side and "
            f"{' or '.join(map(str, backbone.channels))} channels, as {self.name} takes"
        )

    def problem(self, value: Any) -> str:
        backbone = backbones.BACKBONES[self.name]
        fits = len(value) == 3 and value[2] in backbone.channels
        fits = fits and all(backbone.least_side <= side <= _LARGEST_SIDE for side in value[:2])
        return "" if fits else f" must be {self}, not {list(value)}"


def _least_epochs(training: config_lib.Training) -> int:
    """Passes over the images, where it may start from a model the fewer ones."""
    warm = training.warm_epochs if training.start_from != config_lib.SCRATCH else 0
    return min(training.epochs, warm or training.epochs)


# What the names in code, or other settings, decide; of a `TrainConfig` or whatever else has its sections.
RULES: settings.Rules = {
    "model.backbone": lambda config: settings.Choice(tuple(backbones.BACKBONES)),
    "model.image": lambda config: _Image(config.model.backbone),
    "head.name": lambda config: settings.Choice(tuple(heads.HEADS)),
    "head.margin": lambda config: settings.Number(*heads.HEADS[config.head.name].MARGINS),
    "head.options": lambda config: heads.HEADS[config.head.name].allowed_options(),
    "loss.name": lambda config: settings.Choice(tuple(losses.LOSSES)),
    "training.images_per_class": lambda config: settings.Number(0, config.training.batch // 2, whole=True),
    "training.optimizer": lambda config: settings.Choice(tuple(schedules.OPTIMIZERS)),
    "training.schedule": lambda config: settings.Choice(tuple(schedules.SCHEDULES)),
    "training.warmup_epochs": lambda config: settings.Number(
        0, _least_epochs(config.training), without=(_least_epochs(config.training),)
    ),
}


def check(config: config_lib.TrainConfig) -> None:
    """Refuses settings that cannot be, before anything is read or trained.

    Raises:
      errors.UsageError: the key, what it may hold, and what it holds.
    """
    settings.check(config, RULES)
    check_together(config)


def check_together(config: config_lib.TrainConfig, files: bool = True) -> None:
    """Refuses settings that do not go together, each of them within its range; with `files` also files that are not.

    Raises:
      errors.UsageError: the key, and what it does not go with.
    """
    model, training, head = config.model, config.training, heads.HEADS[config.head.name]
    if model.weights and not backbones.BACKBONES[model.backbone].takes_weights:
        raise errors.UsageError(f"model.weights: backbone {model.backbone!r} takes none; leave it empty")
    if model.weights and files and not tf.io.gfile.exists(model.weights):
        raise errors.UsageError(
            f"model.weights: no file {model.weights}; give a Keras weights file or leave it empty"
        )
    if files and training.start_from not in (config_lib.SCRATCH, config_lib.BLESSED):
        starts.check(training.start_from, model)
    head.check_options(config.head.margin, head.read_options(config.head.options))
    _check_cloud(config.leap, config.head.name)
    _check_filter(config)
    if config.head.name == "triplet" and (config.loss.name != "cross_entropy" or training.images_per_class < 2):
        raise errors.UsageError(
            "head.name: triplet needs training.images_per_class of 2 or more and takes no other loss.name than the "
            f"default; they are {training.images_per_class} and {config.loss.name}"
        )
    if training.images_per_class and training.batch % training.images_per_class:
        raise errors.UsageError(
            f"training.batch: {training.batch} is not a multiple of images_per_class={training.images_per_class}"
        )
    _check_gallery(config)
    if training.warmup_epochs and training.schedule not in schedules.WARMED:
        raise errors.UsageError(
            f"training.warmup_epochs: the {training.schedule!r} schedule has no warm-up; set it to 0"
        )


def _check_gallery(config: config_lib.TrainConfig) -> None:
    """Refuses what semi-Siamese training, which asks the head twice a step, cannot be combined with."""
    training = config.training
    if training.gallery_momentum and (
        training.images_per_class != 2
        or config.head.name not in _OF_PAIRS
        or config.leap.variant != "none"
        or config.transfer.variant != "none"
    ):
        raise errors.UsageError(
            f"training.gallery_momentum: goes with training.images_per_class of 2, the heads {', '.join(_OF_PAIRS)}, "
            f"no cloud and no transfer; they are {training.images_per_class}, {config.head.name}, "
            f"{config.leap.variant} and {config.transfer.variant}; or set it to 0"
        )


def _check_cloud(leap: config_lib.Leap, name: str) -> None:
    forms = heads.HEADS[name].CLOUD_FORMS
    if leap.variant == "none":
        return
    if not forms:
        raise errors.UsageError(f"leap.variant: head {name!r} has no angles for a cloud; set it to none")
    if leap.variant == "directional" and leap.form == "closed":
        raise errors.UsageError("leap.form: a directional cloud is in closed form anyway; leave it at drawn")
    form, key = ("directional", "leap.variant") if leap.variant == "directional" else (leap.form, "leap.form")
    if form not in forms:
        raise errors.UsageError(f"{key}: head {name!r} takes no {form} cloud; {' or '.join(forms)} go with it")
    if leap.statistics == "corrected" and leap.images_kept > _MOST_CORRECTED:
        raise errors.UsageError(
            f"leap.images_kept: at most {_MOST_CORRECTED} with leap.statistics corrected, not {leap.images_kept}"
        )


def _check_filter(config: config_lib.TrainConfig) -> None:
    """Refuses losses and stages of feature transfer without what they are about."""
    head, loss, variant = heads.HEADS[config.head.name], config.loss, config.transfer.variant
    if loss.metric_weight and not head.takes_metric:
        takes = ", ".join(name for name, each in heads.HEADS.items() if each.takes_metric)
        raise errors.UsageError(
            f"loss.metric_weight: the logits of head {config.head.name!r} are of cosines, which m-L2 cannot hold down; "
            f"set it to 0, or take the head {takes}"
        )
    for key, is_asked, none in (
        ("loss.reconstruction_weight", loss.reconstruction_weight, 0),
        ("transfer.variant", variant, "none"),
        ("model.rich", config.model.rich, "false"),
    ):
        if is_asked not in (0, "none") and not config.model.filter:
            raise errors.UsageError(f"{key}: needs the rich features g, set model.filter to true; or set it to {none}")
    if variant == "none":
        return
    if config.head.name == "triplet" or config.leap.variant != "none":
        raise errors.UsageError(
            "transfer.variant: takes a head that classifies, and no cloud; they are "
            f"head.name={config.head.name} and leap.variant={config.leap.variant}"
        )
    if head.keeps_means:
        raise errors.UsageError(
            f"transfer.variant: stage 2 keeps the head as it is, and {config.head.name} has running means; take another"
        )
    if loss.centre_weight:
        raise errors.UsageError(
            f"loss.centre_weight: stage 1 of transfer.variant {variant} has no centre loss; set it to 0, not "
            f"{loss.centre_weight:g}"
        )
    if config.training.precision != "float32":
        raise errors.UsageError(
            f"transfer.variant: trains in float32 alone; training.precision is {config.training.precision}"
        )

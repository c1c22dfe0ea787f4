"""Refuses training settings that cannot be, before anything is read or made."""

from collections.abc import Iterable

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.models import losses
from longtail.models import schedules
from longtail.models.leap import angle_memory
from longtail.models.leap import feature_cloud

OPTIMIZERS = ("adam", "sgd")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


def check(config: config_lib.TrainConfig) -> None:
    """Refuses settings that cannot be, before anything is read or trained.

    Raises:
      errors.UsageError: the key, what it holds, and what it may hold.
    """
    model, leap, training, augmentation = config.model, config.leap, config.training, config.augment
    _among("head.name", config.head.name, heads.HEADS)
    _among("model.backbone", model.backbone, backbones.BACKBONES)
    _among("loss.name", config.loss.name, losses.LOSSES)
    _among("leap.variant", leap.variant, ("none", *feature_cloud.VARIANTS))
    _among("leap.angle_order", leap.angle_order, angle_memory.ANGLE_ORDERS)
    _among("training.optimizer", training.optimizer, OPTIMIZERS)
    _among("training.schedule", training.schedule, schedules.SCHEDULES)
    _among("training.precision", training.precision, PRECISIONS)
    ranges = [
        ("head.scale", config.head.scale, 1e-6, 1e6),
        ("head.margin", config.head.margin, *heads.HEADS[config.head.name].MARGINS),
        ("loss.beta", config.loss.beta, 0.0, 0.9999999),
        ("loss.start_epoch", config.loss.start_epoch, 0, 1 << 30),
        ("loss.centre_weight", config.loss.centre_weight, 0.0, 1e6),
        ("loss.centre_rate", config.loss.centre_rate, 1e-6, 1.0),
        ("model.dimension", model.dimension, 2, 1 << 20),
        ("model.weight_decay", model.weight_decay, 0.0, 1.0),
        ("leap.start_epoch", leap.start_epoch, 0, 1 << 30),
        ("leap.images_kept", leap.images_kept, 1, 1 << 20),
        ("leap.centre_momentum", leap.centre_momentum, 0.0, 0.999999),
        ("leap.refresh_every", leap.refresh_every, 1, 1 << 30),
        ("augment.shift", augmentation.shift, 0.0, 1.0),
        ("augment.rotation", augmentation.rotation, 0.0, 180.0),
        ("augment.erase", augmentation.erase, 0.0, 1.0),
        ("training.epochs", training.epochs, 1, 1 << 30),
        ("training.batch", training.batch, 2, 1 << 20),
        ("training.images_per_class", training.images_per_class, 0, training.batch // 2),
        ("training.rate", training.rate, 1e-12, 1e3),
        ("training.warmup_epochs", training.warmup_epochs, 0.0, float(training.epochs)),
        ("training.cycles", training.cycles, 1, 1 << 20),
        ("training.seed", training.seed, 0, (1 << 31) - 1),
        ("training.cache_megabytes", training.cache_megabytes, 0, 1 << 30),
    ]
    for key, value, least, most in ranges:
        if not least <= value <= most:  # not a number is refused too
            raise errors.UsageError(f"{key}: {value} is not from {least} to {most}")
    _check_image(model)
    _check_head(config)
    if training.images_per_class and training.batch % training.images_per_class:
        raise errors.UsageError(
            f"training.batch: {training.batch} is not a multiple of images_per_class={training.images_per_class}"
        )


def _check_head(config: config_lib.TrainConfig) -> None:
    name = config.head.name
    kind = heads.HEADS[name]
    kind.check_options(config.head.margin, kind.read_options(config.head.options))
    if config.leap.variant != "none" and not kind.takes_cloud:
        raise errors.UsageError(f"leap.variant: head {name!r} has no angles for a cloud; set it to none")
    if name == "triplet" and (config.loss.name != "cross_entropy" or config.training.images_per_class < 2):
        raise errors.UsageError(
            "head.name: triplet needs training.images_per_class of 2 or more and takes no other loss.name than the "
            f"default; they are {config.training.images_per_class} and {config.loss.name}"
        )


def _among(key: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise errors.UsageError(f"{key}: unknown {value!r}; one of {', '.join(known)}")


def _check_image(model: config_lib.Model) -> None:
    least = 32 if model.backbone == "resnet50" else 8
    channels = (3,) if model.backbone == "resnet50" else (1, 3)
    fits = len(model.image) == 3 and model.image[2] in channels and min(model.image[:2]) >= least
    if not fits:
        raise errors.UsageError(
            f"model.image: {list(model.image)} is not [height, width, channels] of at least {least} pixels a side "
            f"and {' or '.join(map(str, channels))} channels, as {model.backbone} takes"
        )

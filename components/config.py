"""What a run is told beside its training: every setting with its default, its range and what it is, once."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from longtail.components.data import features
from longtail.components.data import layouts
from longtail.models import config
from longtail.models import errors
from longtail.models import settings
from longtail.models.metrics import protocols

KEEP, SET_ASIDE = CONTRADICTIONS = ("keep", "set_aside")
STRATEGIES = ("none", "cap", "repeat", "carve")
MARGIN_ENDS = ("worst", "middle", "best")


@dataclasses.dataclass(frozen=True)
class Reading:
    """Where images come from and how they are divided."""

    source: str = settings.text("", "where images are, unless --data says so")
    layout: str = settings.choice("folder", tuple(layouts.LAYOUTS), "how paths tell identities")
    camera_pattern: str = settings.text("", "regular expression with one group of digits, searched in the file name")
    eval_fraction: float = settings.number(0.25, 0, 1, "share of identities held out for scoring", without=(0, 1))
    query_fraction: float = settings.number(
        0.5, 0, 1, "share of a held-out identity's images that are queries", without=(0, 1)
    )
    seed: int = settings.number(0, 0, config.SEEDS, "another one holds out other identities")
    max_pixels: int = settings.number(config.MAX_PIXELS, 1, config.LARGE, "larger images are set aside")
    contradictions: str = settings.choice(KEEP, CONTRADICTIONS, "what becomes of a file that two identities share")
    max_quarantine_fraction: float = settings.number(0.05, 0, 1, "more set aside than this stops the run")


@dataclasses.dataclass(frozen=True)
class Data(Reading):
    """What is read of a delivery, and which deliveries are trained on."""

    window: str = settings.setting(
        "all",
        settings.Text("all, one or last N, with N from 1", r"all|one|last [1-9][0-9]{0,8}"),
        "which accepted spans a run trains on, up to its own",
    )

    def reading(self) -> dict[str, Any]:
        """The part that decides what is read, by key."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Reading)}


@dataclasses.dataclass(frozen=True)
class Span:
    """Which delivery of the data a run is about."""

    span: int = settings.number(1, 1, config.LARGE, "number of this span of the data")


@dataclasses.dataclass(frozen=True)
class Drift:
    """Bounds of the schema and thresholds of the gate, by feature; what has none is calibrated to the spans' size."""

    # What may be in them is known to `curated_schema.content`.
    bounds: dict[str, Any] = settings.setting({}, None, "feature: {min, max}; a value outside breaks the schema")
    thresholds: dict[str, float] = settings.setting(
        {},
        settings.Table(dict.fromkeys(features.COMPARED, settings.Number(0, 1))),
        "feature: a fixed threshold instead of the gate's own",
    )
    sample: int = settings.number(2000, 40, config.LARGE, "images kept of each span, half of them held-out ones")


@dataclasses.dataclass(frozen=True)
class Rebalance:
    """How many images an identity has in training."""

    strategy: str = settings.choice("none", STRATEGIES, "what is done to the balance; carve: <H,S> or <H,T>")
    head: int = settings.number(0, 0, config.LARGE, "carve: H, how many identities keep all images")
    tail_images: int = settings.number(0, 0, config.LARGE, "carve: S, how many images the others keep")
    tail_classes: int = settings.number(0, 0, config.LARGE, "carve: T, how many others are kept at all; 0: all")
    tail_cameras: int = settings.number(
        0, 0, config.LARGE, "carve: of how many of its cameras the images of each of the others are; 0: all"
    )
    cap: int = settings.number(0, 0, config.LARGE, "cap: most images of an identity")
    repeat_to: int = settings.number(0, 0, config.LARGE, "repeat: images are repeated until there are so many")
    seed: int = settings.number(0, 0, config.SEEDS, "which images are kept")


# Who is in the gallery that a run pushes; any other word is where the images of those are who are.
GALLERIES = HELD_OUT, EVERYBODY = ("held_out", "all")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a model is scored and when it is blessed."""

    protocol: str = settings.choice(
        "query_gallery", tuple(protocols.PROTOCOLS), "which images are ranked against which"
    )
    floor_map: float = settings.number(0.0, 0, 1, "a model below this mAP is not blessed")
    margin: float = settings.number(0.02, 0, 1, "how far below the last blessed model's mAP it may be")
    margin_end: str = settings.choice(
        "middle", MARGIN_ENDS, "which end of the 95 % interval of that difference counts; middle: the difference itself"
    )
    max_undecodable: float = settings.number(0.05, 0, 1, "which share of held-out images it may refuse")
    beat_pixels: bool = settings.flag(True, "a model no better than an image's own pixels is not blessed")
    gallery: str = settings.setting(
        "held_out",
        settings.Text("held_out, all, or a folder or archive of images", r"(?s:.+)"),
        "who is in the pushed gallery: those held out, or all, with whom it was trained on, or those of a folder",
    )
    earlier_images: int = settings.number(
        2000, 1, config.LARGE, "images of each earlier span of the window that are scored by, in whole identities"
    )


@dataclasses.dataclass(frozen=True)
class Card:
    """What the report of a run tells its reader beside the figures; nothing of it changes a run."""

    use: str = settings.text("", "what the model is meant for")
    limits: str = settings.text("", "what it must not be used for, or has not been shown to do")
    data_licence: str = settings.text("", "licence of the images, and where they come from")


@dataclasses.dataclass(frozen=True)
class Study:
    """How a study divides identities; nothing of it is read by a run."""

    group_pattern: str = settings.text(
        "", "regular expression with one group, searched in an identity: its group, which is not divided"
    )
    validation_fraction: float = settings.number(
        0.25, 0, 1, "share of the groups not held out that options are chosen on; 0: none", without=(1,)
    )


def check_tail(asked: Rebalance, head_threshold: int) -> None:
    """Refuses a carve whose tail would be head by the run's threshold, `leap.head_threshold`.

    Raises:
      errors.UsageError: both numbers.
    """
    if asked.strategy == "carve" and asked.tail_images > head_threshold:
        raise errors.UsageError(
            f"rebalance.tail_images: {asked.tail_images} is more than leap.head_threshold={head_threshold}, so the "
            "carve's tail would be head; lower it, or raise leap.head_threshold"
        )


def check_cameras(tail_cameras: int, cameras: Iterable[int]) -> None:
    """Refuses `rebalance.tail_cameras` where a camera is unknown.

    Args:
      tail_cameras: as it is set.
      cameras: of the images that are trained on, -1 where unknown.

    Raises:
      errors.UsageError: how many images there are whose camera is unknown, and what to do.
    """
    known = [camera >= 0 for camera in cameras] if tail_cameras else []
    if not all(known):
        raise errors.UsageError(
            f"rebalance.tail_cameras: {tail_cameras}, but of {known.count(False)} of {len(known)} images to train on "
            "the camera is unknown; say it (data.camera_pattern, or the data's column camera), or set this to 0"
        )

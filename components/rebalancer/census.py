"""How many images each training identity has and gets: the plan, and its reader."""

import collections
import hashlib
import json
import os
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from longtail.components import config
from longtail.components.data import splits
from longtail.models import errors
from longtail.models import settings

CENSUS_FILE = "census.json"

NONE, CAP, REPEAT, CARVE = config.STRATEGIES


class Count(NamedTuple):
    """What is counted of an identity's images that came with one span first.

    Attributes:
      identity: whose.
      span: number of the first span of the window that has them.
      camera: that saw them, -1 where unknown; the lowest known, where copies say several.
      images: distinct ones.
      files: that hold them, in all spans.
    """

    identity: str
    span: int
    camera: int
    images: int
    files: int


Found = list[Count]


def read_census(uri: str) -> dict[str, Any]:
    """Reads a ClassCensus artifact.

    Args:
      uri: the artifact's folder.

    Returns:
      `strategy`, `images` and `rows` (totals), `classes`, a list in the order of `class_id` of
      `identity` (its name), `number` (its place among all trained identities that were ever
      accepted), `class_id` (0..C-1), `available` (distinct images found), `images` (distinct images
      kept: K_i), `rows` (records written) and, where the strategy is of cameras, `cameras`, those
      that a tail identity's images are kept of; and `spans`, as `new_by_span` returns it.
    """
    with tf.io.gfile.GFile(os.path.join(uri, CENSUS_FILE), "r") as file:
        return json.loads(file.read())


def check(asked: config.Rebalance) -> None:
    """Checks what is asked of a rebalancing.

    Raises:
      errors.UsageError: a value out of range, or one that the strategy needs is not given.
    """
    settings.check(asked, prefix="rebalance.")
    needed = {CARVE: "tail_images", CAP: "cap", REPEAT: "repeat_to"}.get(asked.strategy)
    if needed and not getattr(asked, needed):
        raise errors.UsageError(f"rebalance.{needed} must be 1 or more with the strategy {asked.strategy}, not 0")


def totals(found: Iterable[Count]) -> dict[str, tuple[int, int]]:
    """Returns identity -> (distinct images, files), of all spans."""
    counts: dict[str, tuple[int, int]] = {}
    for one in found:
        images, files = counts.get(one.identity, (0, 0))
        counts[one.identity] = (images + one.images, files + one.files)
    return counts


def by_camera(found: Iterable[Count]) -> dict[str, collections.Counter[int]]:
    """Returns identity -> camera -> distinct images, of all spans."""
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for one in found:
        counts[one.identity][one.camera] += one.images
    return dict(counts)


def new_by_span(found: Iterable[Count], spans: Iterable[int]) -> list[dict[str, int]]:
    """Returns, for each span, the distinct images and identities to train on that none before it in the window has."""
    images: collections.Counter[int] = collections.Counter()
    first: dict[str, int] = {}
    for one in found:
        images[one.span] += one.images
        first[one.identity] = min(one.span, first.get(one.identity, one.span))
    identities = collections.Counter(first.values())
    return [{"span": span, "new_images": images[span], "new_identities": identities[span]} for span in spans]


def ranked(counts: Mapping[str, tuple[int, int]], seed: int) -> list[str]:
    """The identities in the order in which a carve keeps them whole: those with the most images first.

    Args:
      counts: as `plan` takes them.
      seed: of the order of those with as many images.
    """
    return sorted(counts, key=lambda identity: (-counts[identity][0], _place(seed, identity)))


def plan(
    counts: Mapping[str, tuple[int, int]],
    strategy: str,
    head: int = config.Rebalance.head,
    tail_images: int = config.Rebalance.tail_images,
    tail_classes: int = config.Rebalance.tail_classes,
    tail_cameras: int = config.Rebalance.tail_cameras,
    cap: int = config.Rebalance.cap,
    repeat_to: int = config.Rebalance.repeat_to,
    seed: int = config.Rebalance.seed,
    numbers: Mapping[str, int] | None = None,
    cameras: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, Any]:
    """Decides how many images and rows each identity gets; O(C log C) for C identities.

    Args:
      counts: identity -> (distinct images, files); files that repeat another's bytes are no
        images of their own, and written once.
      strategy: `none` keeps every image. `cap` keeps at most `cap` images of an identity. `repeat`
        writes an identity's images again, as evenly as can be, up to `repeat_to` rows. `carve`
        keeps the `head` identities with the most images (ties by a hash of seed and name) whole and cuts the
        others to `tail_images`, <H,S>; with `tail_classes` only the first so many of them stay, in the same order,
        and the rest is left out of the census: the face data's <H,T>. With `tail_cameras` the others keep images of
        so many of their cameras alone, which `seed` chooses.
      numbers: identity -> its number, in whose order class ids are given; None: in the order of the names.
      cameras: as `by_camera` returns it; needed with `tail_cameras`.

    Returns:
      The census, as `read_census` returns it.

    Raises:
      errors.UsageError: a parameter out of range, or a head that leaves no tail.
      errors.WorkError: fewer than two identities.
    """
    check(config.Rebalance(strategy, head, tail_images, tail_classes, tail_cameras, cap, repeat_to, seed))
    if len(counts) < 2:
        names = f" ({next(iter(counts))!r})" if counts else ""
        raise errors.WorkError(
            f"rebalancer: the train split holds {len(counts)} identity{names}, training needs two "
            "or more: add images of other identities, or lower eval_fraction"
        )
    if strategy == CARVE and head >= len(counts):
        raise errors.UsageError(
            f"rebalancer: carve with head {head} leaves no tail of {len(counts)} identities; "
            f"choose a head below {len(counts)}"
        )
    order = ranked(counts, seed)
    whole = set(order[:head]) if strategy == CARVE else set()
    kept = order[: head + tail_classes] if strategy == CARVE and tail_classes else order
    classes: list[dict[str, Any]] = []
    if numbers is None:
        numbers = {identity: number for number, identity in enumerate(sorted(counts))}
    for class_id, identity in enumerate(sorted(kept, key=numbers.__getitem__)):
        available, _ = counts[identity]
        images = rows = available
        seen_by = {}
        if strategy == REPEAT:
            rows = max(available, repeat_to)
        elif strategy != NONE and identity not in whole:
            of_cameras = available
            if strategy == CARVE and tail_cameras:
                assert cameras is not None
                seen_by = {"cameras": _cameras(identity, cameras[identity], tail_cameras, seed)}
                of_cameras = sum(cameras[identity][camera] for camera in seen_by["cameras"])
            images = rows = min(of_cameras, cap if strategy == CAP else tail_images)
        sizes = {"available": available, "images": images, "rows": rows}
        classes.append({"identity": identity, "number": numbers[identity], "class_id": class_id, **sizes, **seen_by})
    totals = {key: sum(one[key] for one in classes) for key in ("images", "rows")}
    return {"strategy": strategy, "classes": classes, **totals}


def check_cloud(census: Mapping[str, Any], variant: str, head_threshold: int) -> None:
    """Refuses a cloud that needs a head class where there is none: a vanilla one, or noise on the head.

    Args:
      census: as `plan` returns it.
      variant: of the feature cloud, `leap.variant`.
      head_threshold: T; classes with more images than that are head classes.

    Raises:
      errors.UsageError: there is no head class.
    """
    most = max(one["images"] for one in census["classes"])
    if variant in ("vanilla", "noise_head") and most <= head_threshold:
        raise errors.UsageError(
            f"leap.head_threshold: {head_threshold} leaves the {variant} cloud no head class, since no identity is "
            f"trained on more than {most} images; lower it, or set leap.variant to full"
        )


def _cameras(identity: str, found: Iterable[int], number: int, seed: int) -> list[int]:
    return sorted(sorted(found, key=lambda camera: splits.unit_hash(seed, f"{identity}/{camera}"))[:number])


def _place(seed: int, identity: str) -> bytes:
    """Where an identity stands among those with as many images: were it its name, the head would be one alphabet."""
    return hashlib.sha256(f"{seed}/{identity}".encode()).digest()

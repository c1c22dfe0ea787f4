"""How many images each training identity has and gets: the plan, and its reader."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from longtail.models import errors

FILE_NAME = "census.json"

NONE = "none"
CAP = "cap"
REPEAT = "repeat"
CARVE = "carve"
STRATEGIES = (NONE, CAP, REPEAT, CARVE)


def read_census(uri: str) -> dict[str, Any]:
    """Reads a ClassCensus artifact.

    Args:
        uri: the artifact's folder.

    Returns:
        `strategy`, `images` and `rows` (totals), and `classes`, a list in the order of `class_id`
        of `identity` (its name), `class_id` (0..C-1), `available` (distinct images found), `images`
        (distinct images kept: K_i) and `rows` (records written).
    """
    with tf.io.gfile.GFile(os.path.join(uri, FILE_NAME), "r") as file:
        return json.loads(file.read())


def check(strategy: str, head: int, tail_images: int, cap: int, repeat_to: int) -> None:
    """Checks the parameters of a rebalancing.

    Raises:
        errors.UsageError: an unknown strategy, or a parameter it needs is out of range.
    """
    if strategy not in STRATEGIES:
        raise errors.UsageError(
            f"rebalancer: no strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}"
        )
    if strategy == CARVE and head < 0:
        raise errors.UsageError(f"rebalancer: carve needs head of 0 or more identities, not {head}")
    needed = {
        CARVE: ("tail_images", tail_images),
        CAP: ("cap", cap),
        REPEAT: ("repeat_to", repeat_to),
    }
    if strategy in needed and needed[strategy][1] < 1:
        name, value = needed[strategy]
        raise errors.UsageError(
            f"rebalancer: {strategy} needs {name} of 1 image or more, not {value}"
        )


def plan(
    counts: Mapping[str, tuple[int, int]],
    strategy: str,
    head: int = 0,
    tail_images: int = 0,
    cap: int = 0,
    repeat_to: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Decides how many images and rows each identity gets; O(C log C) for C identities.

    Args:
        counts: identity -> (distinct images, files); files that repeat another's bytes are no
            images of their own.
        strategy: `none` keeps every file. `cap` keeps at most `cap` images of an identity. `repeat`
            writes an identity's images again, as evenly as can be, up to `repeat_to` rows. `carve`
            keeps the `head` identities with the most images (ties by a hash of seed and name) whole and cuts the
            others to `tail_images`. All but `none` write a repeated file once.

    Returns:
        The census, as `read_census` returns it.

    Raises:
        errors.UsageError: a parameter out of range, or a head that leaves no tail.
        errors.WorkError: fewer than two identities.
    """
    check(strategy, head, tail_images, cap, repeat_to)
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
    ranked = sorted(counts, key=lambda identity: (-counts[identity][0], _place(seed, identity)))
    whole = set(ranked[:head]) if strategy == CARVE else set()
    classes = []
    for class_id, identity in enumerate(sorted(counts)):
        available, files = counts[identity]
        images = rows = available
        if strategy == NONE:
            rows = files
        elif strategy == REPEAT:
            rows = max(available, repeat_to)
        elif identity not in whole:
            images = rows = min(available, cap if strategy == CAP else tail_images)
        numbers = {"available": available, "images": images, "rows": rows}
        classes.append({"identity": identity, "class_id": class_id, **numbers})
    totals = {key: sum(one[key] for one in classes) for key in ("images", "rows")}
    return {"strategy": strategy, "classes": classes, **totals}


def _place(seed: int, identity: str) -> bytes:
    """Where an identity stands among those with as many images: were it its name, the head would be one alphabet."""
    return hashlib.sha256(f"{seed}/{identity}".encode()).digest()

"""Who is trained on and who is held out, and which held-out images ask and which answer; and whether that will do.

Both are decided by hashes, so that data that grows keeps everyone where they were.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from longtail.components.data import base
from longtail.components.data import features
from longtail.models.metrics import protocols


def unit_hash(seed: int, text: str) -> float:
    """A number in [0, 1) that looks random but hangs on `seed` and `text` alone."""
    digest = hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2.0**56


def held_out(identities: Iterable[str], eval_fraction: float, seed: int) -> frozenset[str]:
    """The identities for evaluation; the others are for training.

    An identity's side hangs on its name and `seed` alone. Only where one side would have fewer than two, of four or
    more, are the identities nearest to the border moved over: there are then too few for anything else.

    Args:
      identities: names, at least two different ones.
      eval_fraction: share to hold out, in (0, 1).
      seed: another seed, another division.
    """
    ranked = sorted({(unit_hash(seed, identity), identity) for identity in identities})
    least = 2 if len(ranked) >= 4 else 1
    count = sum(place < eval_fraction for place, _ in ranked)
    count = min(max(count, least), len(ranked) - least)
    return frozenset(identity for _, identity in ranked[:count])


def held_out_of(items: Iterable[base.Item], eval_fraction: float, seed: int) -> frozenset[str]:
    """Likewise, of images: only those whose layout does not say on which side they are."""
    undecided = {item.identity for item in items if item.split is None}
    return held_out(undecided, eval_fraction, seed) if undecided else frozenset()


class Division(NamedTuple):
    """Images with their sides settled.

    Attributes:
      items: the images; what a layout says of a side that an earlier span overrules is changed.
      held_out: the identities of eval, of images whose layout does not say on which side they are.
      overruled: the images that stay where an earlier span had their identity, and would be elsewhere without it.
    """

    items: tuple[base.Item, ...]
    held_out: frozenset[str]
    overruled: tuple[base.Item, ...]


def divide(items: Sequence[base.Item], eval_fraction: float, seed: int, known: Mapping[str, bool]) -> Division:
    """Settles sides: of an identity met before as it was, of any other as the layout says, else by its hash.

    Args:
      items: all images.
      eval_fraction: as `held_out` takes it.
      seed: likewise.
      known: identity -> whether it was held out, of earlier spans.
    """
    chosen = held_out_of(items, eval_fraction, seed)
    met = {item.identity for item in items}
    kept = frozenset(identity for identity in met if known.get(identity, identity in chosen))
    settled = tuple(_settled(item, known.get(item.identity)) for item in items)
    pairs = zip(items, settled, strict=True)
    overruled = tuple(new for old, new in pairs if output_split(old, chosen) != output_split(new, kept))
    return Division(settled, kept, overruled)


def _settled(item: base.Item, is_held_out: bool | None) -> base.Item:
    """The item as its identity's side has it; which held-out images ask is then decided as where no layout says it."""
    if is_held_out is None or item.split is None or (item.split != features.TRAIN.decode()) == is_held_out:
        return item
    return dataclasses.replace(item, split=None if is_held_out else features.TRAIN.decode())


def output_split(item: base.Item, held_out: frozenset[str]) -> str:
    """Which split of the Examples artifact an item belongs to."""
    if item.split is not None:
        in_train = item.split == features.TRAIN.decode()
    else:
        in_train = item.identity not in held_out
    return features.TRAIN_SPLIT if in_train else features.EVAL_SPLIT


def lacking(
    items: Iterable[base.Item], held_out: frozenset[str], protocol: protocols.Protocol = protocols.RETRIEVAL
) -> str:
    """What images lack to train on and to score by, and what to do; "" where there is enough.

    Known before any image is read. Two identities are needed for either: of one alone every answer is right.

    Args:
      items: all images.
      held_out: the identities of eval, of images whose layout does not say on which side they are.
      protocol: by which they are scored.
    """
    trained, scored = set(), collections.defaultdict(list)
    for item in items:
        if output_split(item, held_out) == features.TRAIN_SPLIT:
            trained.add(item.identity)
        else:
            scored[item.identity].append(item)
    if len(trained) < 2:
        return f"two identities to train on are needed, found {len(trained)}: add some, or lower eval_fraction"
    unknown = sum(item.camera < 0 for images in scored.values() for item in images) if protocol.cross_camera else 0
    if unknown:
        return (
            f"evaluation.protocol: {protocol.name} crosses cameras, but {unknown} held-out images have none: give "
            "data.camera_pattern, which reads it from file names, or another protocol"
        )
    scorable = sum(_has_match(images, protocol) for images in scored.values())
    if scorable < 2:
        takes = "an image among the queries and one in the gallery" if protocol.divided else "two images"
        cameras = ", of two cameras" if protocol.cross_camera else ""
        return (
            f"two held-out identities that can be scored are needed, found {scorable} among {len(scored)}, since each "
            f"takes {takes}{cameras}: add images of them or other identities, or raise eval_fraction"
        )
    return ""


def _has_match(images: Sequence[base.Item], protocol: protocols.Protocol) -> bool:
    """Whether one of an identity's images finds a right answer, however the undecided ones will be divided."""
    asking = [item for item in images if not protocol.divided or item.split != features.GALLERY.decode()]
    answering = [item for item in images if not protocol.divided or item.split != features.QUERY.decode()]
    if not asking or not answering or len(images) < 2:
        return False
    return not protocol.cross_camera or len({item.camera for item in images}) > 1


def queries(images: Sequence[tuple[str, str]], query_fraction: float, seed: int) -> set[str]:
    """Paths of one identity's images that are queries; the others are its gallery.

    The gallery has at least one image, and so have the queries where there are two or more images.

    Args:
      images: (path, sha256) each; equal files fall on the same side where they can.
      query_fraction: share of queries, in (0, 1).
      seed: another seed, another division.
    """
    ranked = sorted((unit_hash(seed, sha256), path) for path, sha256 in images)
    count = sum(place < query_fraction for place, _ in ranked)
    count = min(max(count, 1), len(ranked) - 1)
    return {path for _, path in ranked[:count]}

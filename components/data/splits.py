"""Who is trained on and who is held out, and which held-out images ask and which answer.

Both are decided by hashes, so that data that grows keeps everyone where they were.
"""

import hashlib
from collections.abc import Iterable
from collections.abc import Sequence


def unit_hash(seed: int, text: str) -> float:
    """A number in [0, 1) that looks random but hangs on `seed` and `text` alone."""
    digest = hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2.0**56


def held_out(identities: Iterable[str], eval_fraction: float, seed: int) -> frozenset[str]:
    """The identities for evaluation; the others are for training.

    An identity's side hangs on its name and `seed` alone. Only where one side would be empty is the
    identity nearest to the border moved over: there are then too few for anything else.

    Args:
        identities: names, at least two different ones.
        eval_fraction: share to hold out, in (0, 1).
        seed: another seed, another division.
    """
    ranked = sorted({(unit_hash(seed, identity), identity) for identity in identities})
    chosen = [identity for place, identity in ranked if place < eval_fraction]
    if not chosen:
        chosen = [ranked[0][1]]
    elif len(chosen) == len(ranked):
        chosen.pop()
    return frozenset(chosen)


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

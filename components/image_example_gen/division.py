"""Who is read and on which side, as the registry has it: what ingestion goes by, and the check before a run."""

import dataclasses
import hashlib
import json
import unicodedata
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from longtail.components import ledger as ledger_lib
from longtail.components.data import base
from longtail.components.data import splits

AUTO = "auto"  # a pin: whatever the registry says when the step runs
NONE = "none"  # a pin: the registry changes nothing


class Divided(NamedTuple):
    """A source's files, with what accepted spans settle about them.

    Attributes:
      listing: without what is of withdrawn identities.
      held_out: the identities of eval, of images whose layout does not say on which side they are.
      overruled: identity -> number of its images that an earlier span keeps on their side.
      withdrawn: how many files of withdrawn identities were left out.
      pin: tells apart what the registry changed; NONE for nothing.
    """

    listing: base.Listing
    held_out: frozenset[str]
    overruled: dict[str, int]
    withdrawn: int
    pin: str


def divide(source: base.Source, registry: str, eval_fraction: float, seed: int) -> Divided:
    """Lists a source and settles who is on which side.

    Args:
      source: of the images.
      registry: the registry's folder; "" for none.
      eval_fraction: as `splits.held_out` takes it.
      seed: likewise.

    Raises:
      errors.UsageError: nothing to work with in the source.
      errors.WorkError: the registry's ledger is damaged.
    """
    ledger = ledger_lib.read(registry)
    listing = source.listing()
    left = _without(listing, ledger.withdrawals)
    division = splits.divide(left.items, eval_fraction, seed, ledger.held_out())
    overruled: dict[str, int] = {}
    for item in division.overruled:
        overruled[item.identity] = overruled.get(item.identity, 0) + 1
    gone = sorted(set(_paths(listing)).difference(_paths(left)))
    changes = [sorted(overruled.items()), gone]
    pin = NONE
    if overruled or gone:
        pin = hashlib.sha256(json.dumps([ledger.salt, *changes]).encode()).hexdigest()[:16]
    listing = dataclasses.replace(left, items=division.items)
    return Divided(listing, division.held_out, overruled, len(gone), pin)


def _without(listing: base.Listing, withdrawn: ledger_lib.Withdrawals) -> base.Listing:
    """A listing without files of withdrawn identities, those that are no images too: their paths hold the name."""
    if not withdrawn.digests:
        return listing
    kept = {
        field: tuple(row for row in getattr(listing, field) if not _names_one(row[0], withdrawn))
        for field in ("rejected", "dropped", "ignored")
    }
    items = tuple(item for item in listing.items if item.identity not in withdrawn)
    return dataclasses.replace(listing, items=items, **kept)


def _paths(listing: base.Listing) -> Iterator[str]:
    """Of all that a listing tells of."""
    yield from (item.path for item in listing.items)
    yield from (path for rows in (listing.rejected, listing.dropped, listing.ignored) for path, _ in rows)


def _names_one(path: str, withdrawn: ledger_lib.Withdrawals) -> bool:
    return any(name in withdrawn for name in _names(unicodedata.normalize("NFC", path)))


def _names(path: str) -> Iterable[str]:
    """All that a path may call an identity: each folder and file in it, and each run of folders."""
    whole = path.strip("/").split("/")
    for parts in (whole, [*whole[:-1], whole[-1].rpartition(".")[0]]):
        for begin in range(len(parts)):
            for end in range(begin, len(parts)):
                yield "/".join(parts[begin : end + 1])

"""Who was met in accepted spans, and on which side, for good; and who was withdrawn.

`<registry>/identities.json` lists every identity in the order in which the gate accepted it, with its side and the span
it came with. It only grows: the number of a trained identity is its place among the trained ones, and stays. Of a
withdrawn identity the place is kept and the name is not: what tells it when it comes again is a salted SHA-256 digest
of its name. The file is replaced by rename; one run at a time writes it, as with the rest of the registry.
"""

import dataclasses
import functools
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from longtail.components.data import features
from longtail.models import errors
from longtail.models import files

FILE = "identities.json"
TRAIN, HELD_OUT = "train", "held_out"  # sides


class Met(NamedTuple):
    """An identity of the ledger.

    Attributes:
      identity: its name; None once it is withdrawn.
      side: TRAIN or HELD_OUT.
      span: the one it came with first.
    """

    identity: str | None
    side: str
    span: int


@dataclasses.dataclass(frozen=True)
class Withdrawals:
    """Which identities are withdrawn: `name in withdrawals`."""

    salt: str = ""
    digests: frozenset[str] = frozenset()

    def __contains__(self, identity: object) -> bool:
        return bool(self.digests) and isinstance(identity, str) and digest(self.salt, identity) in self.digests


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What the file holds.

    Attributes:
      salt: of the digests.
      met: every identity, in the order in which it was accepted.
      reasons: digest of a withdrawn identity -> why.
    """

    salt: str
    met: tuple[Met, ...] = ()
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def withdrawals(self) -> Withdrawals:
        """The withdrawn identities."""
        return Withdrawals(self.salt, frozenset(self.reasons))

    def held_out(self) -> dict[str, bool]:
        """Identity -> whether it is held out, of all that are known by name."""
        return {one.identity: one.side == HELD_OUT for one in self.met if one.identity is not None}

    def trained(self) -> list[str | None]:
        """The trained identities; the place of each is its number."""
        return [one.identity for one in self.met if one.side == TRAIN]


@functools.lru_cache(maxsize=100_000)
def digest(salt: str, identity: str) -> str:
    """What is kept of a withdrawn identity's name, in hex."""
    return hashlib.sha256(f"{salt}/{identity}".encode()).hexdigest()


def read(registry: str) -> Ledger:
    """Reads the ledger; an empty one, with a salt of its own, where there is none yet.

    Raises:
      errors.WorkError: the file is damaged.
    """
    path = os.path.join(registry, FILE)
    if not registry or not tf.io.gfile.exists(path):
        return Ledger(secrets.token_hex(16))
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            content = json.loads(file.read())
        return Ledger(content["salt"], tuple(Met(*row) for row in content["identities"]), content["withdrawn"])
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise errors.WorkError(
            f"{path}: damaged ({errors.first_line(error)}); put a copy back: without it nobody knows who was held out"
        ) from error


def append(registry: str, span: int, counts: Mapping[str, Mapping[str, Any]]) -> None:
    """Adds who is new in a span; whoever is there already keeps place, side and span.

    An identity that is on both sides of a span, as a layout may say, counts as trained: it is never to be scored by.

    Args:
      registry: the registry's folder.
      span: the span.
      counts: by split, as `identity_counts.read` gives them.
    """
    before = read(registry)
    known, withdrawn = before.held_out(), before.withdrawals
    sides = dict.fromkeys(counts[features.EVAL_SPLIT], HELD_OUT) | dict.fromkeys(counts[features.TRAIN_SPLIT], TRAIN)
    new = [Met(name, sides[name], span) for name in sorted(sides) if name not in known and name not in withdrawn]
    if new:
        _write(registry, dataclasses.replace(before, met=(*before.met, *new)))


def withdraw(registry: str, identity: str, reason: str) -> str:
    """Takes an identity's name out of the ledger and puts its digest in; again, it changes the reason alone.

    Returns:
      The digest.

    Raises:
      errors.UsageError: nobody of that name was ever accepted.
    """
    before = read(registry)
    mark = digest(before.salt, identity)
    if identity not in before.held_out() and mark not in before.reasons:
        raise errors.UsageError(
            f"--identity {identity}: nobody of that name is in an accepted span; names are as the data spells them"
        )
    met = tuple(one._replace(identity=None) if one.identity == identity else one for one in before.met)
    _write(registry, Ledger(before.salt, met, {**before.reasons, mark: reason}))
    return mark


def _write(registry: str, ledger: Ledger) -> None:
    content = {"salt": ledger.salt, "identities": ledger.met, "withdrawn": dict(ledger.reasons)}
    files.write_json(os.path.join(registry, FILE), content, indent=None)

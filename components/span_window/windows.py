"""Which accepted spans a run trains on and is scored by: chosen from the registry, written down, read again."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import tensorflow as tf

from longtail.components import ledger as ledger_lib
from longtail.components import registry as registry_lib
from longtail.components.data import features
from longtail.models import errors
from longtail.models import files

WINDOW_FILE = "window.json"
NUMBERS_FILE = "numbers.json"

ALL, ONE, LAST = "all", "one", "last"
AUTO = "auto"  # a pin: whatever the registry says when the step runs
NONE = "none"  # a pin: no earlier span

@dataclasses.dataclass(frozen=True)
class Span:
    """A span of a window.

    Attributes:
      span: its number.
      examples: folder of its Examples.
      fingerprint: of its data, "" where unknown.
      images: how many it holds.
      identities: likewise.
    """

    span: int
    examples: str
    fingerprint: str
    images: int
    identities: int

    def pattern(self, split: str) -> str:
        """The files of a split."""
        return os.path.join(self.examples, f"Split-{split}", "*")


class Window(NamedTuple):
    """What a run trains on and is scored by.

    Attributes:
      new: number of the run's own span.
      spans: ascending, the new one among them.
      withdrawals: identities whose images are passed over.
      numbers: trained identity -> its number in the ledger.
    """

    new: int
    spans: tuple[Span, ...]
    withdrawals: ledger_lib.Withdrawals
    numbers: dict[str, int]


def earlier(registry: str, span: int, window: str) -> list[Span]:
    """Chooses the accepted spans below `span` that belong to its window.

    Args:
      registry: the registry's folder.
      span: the run's own.
      window: `data.window`.
    """
    if window == ONE:
        return []
    below = {number: registry_lib.accepted_entry(registry, number) for number in _below(registry, span)}
    found = [_span(number, entry) for number, entry in below.items() if "examples" in entry]
    return found if window == ALL else _last(found, int(window.removeprefix(LAST)) - 1)


def unplaced(registry: str, span: int) -> list[int]:
    """Returns the accepted spans below `span` that an earlier release accepted, which kept no place of their images."""
    entries = ((number, registry_lib.accepted_entry(registry, number)) for number in _below(registry, span))
    return [number for number, entry in entries if "examples" not in entry]


def _below(registry: str, span: int) -> list[int]:
    return [number for number in registry_lib.accepted_spans(registry) if number < span]


def _last(found: list[Span], count: int) -> list[Span]:
    return found[len(found) - count :] if count < len(found) else found


def _span(number: int, entry: dict[str, Any]) -> Span:
    return Span(number, entry["examples"], str(entry.get("data", "")), entry["images"], entry["identities"])


def pin(spans: Sequence[Span], withdrawals: ledger_lib.Withdrawals) -> str:
    """Returns the pin of earlier spans: their numbers, and what tells them and who is withdrawn apart."""
    if not spans and not withdrawals.digests:
        return NONE
    told = [[(one.span, one.examples, one.fingerprint) for one in spans], sorted(withdrawals.digests)]
    mark = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    return f"{','.join(str(one.span) for one in spans) or NONE}@{mark}"


def pinned(registry: str, text: str) -> list[Span]:
    """Returns the spans of a pin.

    Raises:
      errors.WorkError: one of them is not there any more.
    """
    numbers = text.partition("@")[0]
    if numbers == NONE:
        return []
    accepted, wanted = registry_lib.accepted_spans(registry), [int(number) for number in numbers.split(",")]
    if lost := sorted(set(wanted).difference(accepted)):
        raise errors.WorkError(
            f"span {lost[0]}, of this run's window, is no accepted span any more; run again to train on what is there"
        )
    return [_span(number, registry_lib.accepted_entry(registry, number)) for number in wanted]


def check(spans: Sequence[Span]) -> None:
    """Refuses a span whose Examples are gone.

    Raises:
      errors.WorkError: the span, the folder, and what to do.
    """
    for one in spans:
        for split in (features.TRAIN_SPLIT, features.EVAL_SPLIT):
            if not tf.io.gfile.glob(one.pattern(split)):
                raise errors.WorkError(
                    f"span {one.span}: its images are gone from {os.path.dirname(one.pattern(split))}; put the folder "
                    f"back, run the span again, withdraw it (longtail spans withdraw {one.span} REASON), or leave "
                    "earlier spans out (data.window: one)"
                )


def write(uri: str, window: Window) -> None:
    """Writes a SpanWindow artifact."""
    spans = [dataclasses.asdict(one) for one in window.spans]
    withdrawn = {"salt": window.withdrawals.salt, "digests": sorted(window.withdrawals.digests)}
    files.write_json(os.path.join(uri, WINDOW_FILE), {"new": window.new, "spans": spans, "withdrawn": withdrawn})
    files.write_json(os.path.join(uri, NUMBERS_FILE), window.numbers, indent=None)


def read(uri: str) -> Window:
    """Reads a SpanWindow artifact."""
    window, numbers = (_read_json(os.path.join(uri, name)) for name in (WINDOW_FILE, NUMBERS_FILE))
    withdrawn = window["withdrawn"]
    return Window(
        window["new"],
        tuple(Span(**one) for one in window["spans"]),
        ledger_lib.Withdrawals(withdrawn["salt"], frozenset(withdrawn["digests"])),
        numbers,
    )


def _read_json(path: str) -> Any:
    with tf.io.gfile.GFile(path, "r") as file:
        return json.loads(file.read())

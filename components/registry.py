"""What the gate remembers beyond one run: what it saw of each span, and which spans it accepted.

`<registry>/drift/span-NNNNNNNN.json` is the last report on a span, accepted or refused. Its `kept` names the folder
`<registry>/drift/span-NNNNNNNN/<kept>/` with what was judged: the span's statistics, `Split-<name>/FeatureStats.pb`,
and its sample, as `longtail.components.data.samples` writes it.
`<registry>/baselines/span-NNNNNNNN/accepted.json` names, by its own `kept`, what was accepted of a span, and holds the
digests of the statistics and of the data, and where the span's Examples lie, which are never copied. A span is accepted
once that file is there, until it is withdrawn: then `withdrawn.json` lies beside it. All of these files are replaced by
rename, and what they name is complete before, so a reader sees the old entry or the new one, whole, on object stores
too.
"""

import hashlib
import json
import os
import re
import types
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from longtail.components.data import samples
from longtail.models import errors
from longtail.models import files

ACCEPTED_FILE = "accepted.json"
WITHDRAWN_FILE = "withdrawn.json"
STATISTICS_FILE = "FeatureStats.pb"

_SPAN_FOLDER = re.compile(r"span-(\d{8,})$")


def baseline_folder(registry: str, span: int) -> str:
    """Returns the folder of an accepted span's entry."""
    return os.path.join(registry, "baselines", f"span-{span:08d}")


def report_path(registry: str, span: int) -> str:
    """Returns where the gate's report on a span lies."""
    return os.path.join(registry, "drift", f"span-{span:08d}.json")


def kept_folder(registry: str, span: int, kept: str) -> str:
    """Returns the folder of what was judged of a span; `kept` is as the report or the accepted entry has it."""
    return os.path.join(registry, "drift", f"span-{span:08d}", kept)


def accepted_spans(registry: str) -> list[int]:
    """Returns the accepted spans that are not withdrawn, ascending; none where there is no registry yet."""
    return [span for span in entered_spans(registry) if withdrawn_reason(registry, span) is None]


def entered_spans(registry: str) -> list[int]:
    """Returns all spans that were ever accepted, ascending."""
    folder = os.path.join(registry, "baselines")
    if not tf.io.gfile.isdir(folder):
        return []
    found = (_SPAN_FOLDER.match(name.rstrip("/")) for name in tf.io.gfile.listdir(folder))
    spans = sorted(int(match.group(1)) for match in found if match)
    return [s for s in spans if _exists(os.path.join(baseline_folder(registry, s), ACCEPTED_FILE))]


def withdrawn_reason(registry: str, span: int) -> str | None:
    """Returns why a span was withdrawn; None of one that is not."""
    path = os.path.join(baseline_folder(registry, span), WITHDRAWN_FILE)
    return json.loads(_read(path))["reason"] if _exists(path) else None


def withdraw(registry: str, span: int, reason: str) -> None:
    """Takes an accepted span out of what later runs train on, score by and compare with; its entry stays."""
    files.write_json(os.path.join(baseline_folder(registry, span), WITHDRAWN_FILE), {"span": span, "reason": reason})


def check_not_withdrawn(registry: str, span: int) -> None:
    """Refuses a withdrawn span that is run again.

    Raises:
      errors.UsageError: why it was withdrawn.
    """
    reason = withdrawn_reason(registry, span)
    if reason is not None:
        raise errors.UsageError(
            f"span {span} is withdrawn ({reason}): nothing is trained on it any more; give other data another number"
        )


def last_accepted(registry: str, span: int, fingerprint: str = "") -> int | None:
    """Returns the span that `span` is to be compared with.

    The nearest accepted span below it, else, where spans came out of order, the nearest above. Where
    `span` itself is the only accepted one it is that, so that other data cannot pass under a number
    that was accepted before; but the same data again is the cold start it was.

    Args:
      registry: the registry's folder.
      span: the span at hand.
      fingerprint: of its data or of its statistics; "" where unknown.

    Returns:
      The accepted span, or None where there is none: a cold start.

    Raises:
      errors.WorkError: the only accepted entry cannot be read.
    """
    accepted = accepted_spans(registry)
    others = [other for other in accepted if other != span]
    below = [other for other in others if other < span]
    if others:
        return below[-1] if below else others[0]
    if not accepted:
        return None
    entry = accepted_entry(registry, span)
    return None if fingerprint and fingerprint in (entry.get("data"), entry.get("fingerprint")) else span


def accepted_folder(registry: str, span: int) -> str:
    """Returns the folder with the accepted statistics and sample of `span`.

    Raises:
      errors.WorkError: the span has no entry, or one that cannot be read.
    """
    path = os.path.join(baseline_folder(registry, span), ACCEPTED_FILE)
    if not _exists(path):
        raise errors.WorkError(
            f"span {span} is no accepted baseline: {path} is missing; accepted are "
            f"{accepted_spans(registry) or 'none'}; run again to be compared with what is there now"
        )
    return kept_folder(registry, span, accepted_entry(registry, span)["kept"])


def accepted_fingerprint(registry: str, span: int) -> str:
    """Returns the digest of an accepted span's statistics.

    Raises:
      errors.WorkError: the span's entry cannot be read.
    """
    return str(accepted_entry(registry, span).get("fingerprint", ""))


def unreadable(path: str, registry: str, span: int) -> errors.WorkError:
    """Returns the error that says what to do about a baseline that cannot be read."""
    return errors.WorkError(
        f"cannot read the accepted baseline {path}: restore the file, or delete "
        f"{baseline_folder(registry, span)} and run again to be compared with another accepted span"
    )


def statistics_path(folder: str, split: str) -> str:
    """Returns the file of one split's statistics."""
    return os.path.join(folder, f"Split-{split}", STATISTICS_FILE)


def copy_statistics(source: str, target: str, splits: list[str]) -> None:
    """Copies the statistics of `splits` from one folder to another."""
    for split in splits:
        path = statistics_path(target, split)
        tf.io.gfile.makedirs(os.path.dirname(path))
        tf.io.gfile.copy(statistics_path(source, split), path, overwrite=True)


def fingerprint(folder: str, splits: list[str]) -> str:
    """Returns the digest of a span's statistics, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        digest.update(split.encode() + b"\0")
        digest.update(_read(statistics_path(folder, split)))
    return digest.hexdigest()[:16]


def keep(registry: str, span: int, statistics: str, splits: list[str], sample: str) -> str:
    """Keeps what is judged of a span.

    Args:
      registry: the registry's folder.
      span: the span.
      statistics: folder of the statistics to copy.
      splits: their splits.
      sample: folder of the sample to copy.

    Returns:
      The name under which it is kept; never one that a reader may be in.
    """
    kept = f"{fingerprint(statistics, splits)}-{uuid.uuid4().hex[:8]}"
    folder = kept_folder(registry, span, kept)
    copy_statistics(statistics, folder, splits)
    samples.copy(sample, folder)
    return kept


def accepted_reason(registry: str, span: int, data: str) -> str:
    """Returns the reason for which this very data was accepted under this number although it had drifted, or ""."""
    if not data or not _exists(os.path.join(baseline_folder(registry, span), ACCEPTED_FILE)):
        return ""
    entry = accepted_entry(registry, span)
    return str(entry.get("accept_drift", "")) if entry.get("data") == data else ""


def accept(
    registry: str,
    span: int,
    kept: str,
    baseline: int,
    data: str = "",
    reason: str = "",
    about: Mapping[str, Any] = types.MappingProxyType({}),
) -> str:
    """Makes what was kept of a span a baseline; an entry of the same span is replaced.

    Args:
      registry: the registry's folder.
      span: the accepted span.
      kept: what `keep` returned.
      baseline: the span it was compared with, -1 where there was none.
      data: fingerprint of the data it is of, "" where unknown.
      reason: why it was accepted although it had drifted, "" where it had not.
      about: what else its entry says: `examples`, the folder of its Examples, and counts.

    Returns:
      What the replaced entry named, "" where there was none.
    """
    path = os.path.join(baseline_folder(registry, span), ACCEPTED_FILE)
    replaced = accepted_entry(registry, span)["kept"] if _exists(path) else ""
    mark = kept.partition("-")[0]
    entry = {"span": span, "fingerprint": mark, "data": data, "baseline_span": baseline, "kept": kept}
    files.write_json(path, {**entry, "accept_drift": reason, **about})
    return replaced


def report(registry: str, span: int, content: dict[str, Any], replaced: str = "") -> None:
    """Writes the report on a span, and forgets what the reports and entries before it named and none names now.

    What nothing ever named is left alone: another run may be about to name it.

    Args:
      registry: the registry's folder.
      span: the span.
      content: the report; its `kept` is what `keep` returned.
      replaced: what `accept` returned.
    """
    path = report_path(registry, span)
    before = json.loads(_read(path)).get("kept", "") if _exists(path) else ""
    files.write_json(path, content)
    named = {content["kept"], ""}
    if _exists(os.path.join(baseline_folder(registry, span), ACCEPTED_FILE)):
        named.add(accepted_entry(registry, span)["kept"])
    for name in {before, replaced} - named:
        folder = kept_folder(registry, span, name)
        if tf.io.gfile.isdir(folder):
            tf.io.gfile.rmtree(folder)


def accepted_entry(registry: str, span: int) -> dict[str, Any]:
    """Returns what an accepted span's file says: what `accept` wrote.

    Raises:
      errors.WorkError: it cannot be read.
    """
    path = os.path.join(baseline_folder(registry, span), ACCEPTED_FILE)
    try:
        entry = json.loads(_read(path))
        if "statistics" in entry:
            folder = os.path.dirname(baseline_folder(registry, span))
            raise errors.WorkError(
                f"{path} is an earlier release's, which kept no images to compare with; delete {folder}: the next span "
                "is then the first"
            )
        return {**entry, "kept": str(entry["kept"])}
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, registry, span) from error


def _exists(path: str) -> bool:
    """Says whether a file is there."""
    return bool(tf.io.gfile.exists(path))


def _read(path: str) -> bytes:
    """Returns a file's bytes."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()

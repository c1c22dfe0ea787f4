"""What became of every file of a source: counted, checked and said."""

import collections
import json
import logging
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import names
from longtail.components.data import splits
from longtail.components.image_example_gen import division
from longtail.components.image_example_gen import steps
from longtail.models import errors

_REASONS_SHOWN = 3

log = logging.getLogger("longtail")


def account(
    divided: division.Divided, quarantine_file: str, written: Mapping[str, int], source: str, most_bad: float
) -> tuple[dict[str, int], identity_counts.Counts]:
    """Counts what went where, and who, and checks that what was listed was either written or set aside.

    Args:
      divided: the source's files.
      quarantine_file: what was set aside.
      written: records by split.
      source: what it is called.
      most_bad: `max_quarantine_fraction`.

    Raises:
      errors.WorkError: too much was set aside, or too little is left or was written.
    """
    listing = divided.listing
    dropped = set(listing.dropped)
    misplaced = dropped.union(listing.rejected)
    with tf.io.gfile.GFile(quarantine_file) as file:
        rows = [json.loads(line) for line in file]
    bad = [row for row in rows if (row["path"], row["reason"]) not in dropped]
    damaged = [row for row in bad if not row["reason"].startswith(steps.SET_ASIDE)]
    _stop_if_too_many(damaged, len(listing.items) + len(listing.rejected), source, most_bad)
    lost = {row["path"] for row in bad if (row["path"], row["reason"]) not in misplaced}
    left = [item for item in listing.items if item.path not in lost]
    counts = {"images": len(left), "identities": len({item.identity for item in left})}
    identities = {}
    for split in (features.TRAIN_SPLIT, features.EVAL_SPLIT):
        here = [item for item in left if splits.output_split(item, divided.held_out) == split]
        if not here:
            raise errors.WorkError(
                f"{source}: {len(bad)} files were set aside and none is left for split '{split}';"
                f" add identities or mend the files, first {bad[0]['path']}: {bad[0]['reason']}"
            )
        if written.get(split, 0) != len(here):
            raise errors.WorkError(
                f"{source}: split '{split}' should have {len(here)} images, but {written.get(split, 0)} were written;"
                " see the log for what became of the others, and run again"
            )
        identities[split] = dict(sorted(collections.Counter(item.identity for item in here).items()))
        counts[f"{split}_images"] = len(here)
        counts[f"{split}_identities"] = len(identities[split])
    if lacking := splits.lacking(left, divided.held_out):
        raise errors.WorkError(f"{source}: {lacking}; {len(bad)} files were set aside, first {bad[0]['path']}")
    counts |= {"quarantined": len(bad), "dropped": len(listing.dropped), "ignored": len(listing.ignored)}
    counts |= {"overruled": len(divided.overruled), "withdrawn": divided.withdrawn}
    _log_lines(source, counts)
    for group in names.same_but_for_case(item.identity for item in left):
        log.warning("identities that differ by letter case alone: %s; are they one?", ", ".join(group))
    return counts, identities


def account_for_copies(path: str) -> dict[str, int]:
    """Counts the files that are there more than once, and says it."""
    with tf.io.gfile.GFile(path) as file:
        rows = [json.loads(line) for line in file]
    contradictions = [row for row in rows if row["contradiction"]]
    groups = [paths for row in rows for paths in row["paths"].values()]
    counts = {
        "copies": sum(len(paths) - 1 for paths in groups),
        "contradictions": len(contradictions),
        "leaks": sum(row["leak"] for row in contradictions),
    }
    if counts["copies"]:
        log.info("%d files are copies of another of their identity, and count once", counts["copies"])
    if contradictions:
        shown = "; ".join(", ".join(min(paths) for paths in row["paths"].values()) for row in contradictions[:3])
        log.warning(
            "%d files lie under more than one identity, %d of them on both sides, trained on and scored by: %s; mend "
            "that, or set data.contradictions to set_aside", len(contradictions), counts["leaks"], shown
        )
    return counts


def _stop_if_too_many(bad: list[dict[str, Any]], files: int, source: str, most: float) -> None:
    share = len(bad) / files
    if share > most:
        for row in bad:  # the artifact goes with a failed execution; the log stays
            logging.warning("quarantined %s: %s", row["path"], row["reason"])
        reasons = "; ".join(f"{row['path']}: {row['reason']}" for row in bad[:_REASONS_SHOWN])
        raise errors.WorkError(
            f"{source}: {len(bad)} of {files} files ({share:.1%}) are bad, more"
            f" than max_quarantine_fraction={most:g} allows: {reasons};"
            " mend or remove them (the log lists all), or raise the limit"
        )


def _log_lines(source: str, counts: Mapping[str, int]) -> None:
    log.info(
        "ingested %d images of %d identities: train %d of %d, eval %d of %d; "
        "%d quarantined, %d left out by the layout, %d ignored (%s)",
        counts["images"],
        counts["identities"],
        counts["train_images"],
        counts["train_identities"],
        counts["eval_images"],
        counts["eval_identities"],
        counts["quarantined"],
        counts["dropped"],
        counts["ignored"],
        source,
    )
    if counts["overruled"]:
        log.info(
            "%d identities stay on the side where an earlier span had them, against the layout or the hash",
            counts["overruled"],
        )
    if counts["withdrawn"]:
        log.info("%d files are of withdrawn identities, and are left out", counts["withdrawn"])

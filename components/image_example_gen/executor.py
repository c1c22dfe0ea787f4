"""The work of ImageExampleGen: list, check, divide, write, and account for every file."""

import collections
import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from longtail.components import config
from longtail.components import registry as registry_lib
from longtail.components import runtime
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import samples
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.image_example_gen import accounting
from longtail.components.image_example_gen import division
from longtail.components.image_example_gen import steps
from longtail.models import errors
from longtail.models import settings

EXAMPLES_KEY = "examples"
QUARANTINE_KEY = "quarantine"

SOURCE_KEY = "source"
SPAN_KEY = "span"
FINGERPRINT_KEY = "fingerprint"
LAYOUT_KEY = "layout"
CAMERA_PATTERN_KEY = "camera_pattern"
EVAL_FRACTION_KEY = "eval_fraction"
QUERY_FRACTION_KEY = "query_fraction"
SEED_KEY = "seed"
MAX_PIXELS_KEY = "max_pixels"
CONTRADICTIONS_KEY = "contradictions"
MAX_QUARANTINE_FRACTION_KEY = "max_quarantine_fraction"
REGISTRY_KEY = "registry"
MODEL_NAME_KEY = "model_name"
PINNED_SIDES_KEY = "pinned_sides"

QUARANTINE_FILE = "quarantine.jsonl"
IGNORED_FILE = "ignored.jsonl"
REPEATED_FILE = "repeated.jsonl"

_SPLITS = (features.TRAIN_SPLIT, features.EVAL_SPLIT)
_IMAGES_A_SHARD = 1000
_ITEMS_A_FILE = 500  # so many are judged by one worker in one go
_ROWS_A_BUCKET = 4096  # about: of rows that are shuffled together

log = logging.getLogger("longtail")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is known before any image is read."""

    source: sources.Source
    divided: division.Divided
    shards: Mapping[str, int]  # number of files of each split
    buckets: int  # into which rows are gathered by content, and by identity

    @property
    def listing(self) -> sources.Listing:
        """What is to be read."""
        return self.divided.listing


class Executor(base_beam_executor.BaseBeamExecutor):
    """Ingests a source: see component.ImageExampleGen."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples and the quarantine.

        Raises:
          errors.UsageError: parameters out of range, or a source with nothing to work with in it.
          errors.WorkError: too many bad files, too little left without them, or images lost on the way.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[EXAMPLES_KEY])
        quarantine = artifact_utils.get_single_instance(output_dict[QUARANTINE_KEY])
        settings.check(settings.pick(config.Reading, exec_properties), prefix="data.")
        settings.check(settings.pick(config.Span, exec_properties))
        registry = runtime.folder(exec_properties[REGISTRY_KEY], exec_properties[MODEL_NAME_KEY])
        if registry:
            registry_lib.check_not_withdrawn(registry, exec_properties[SPAN_KEY])
        plan = _plan(exec_properties, registry)
        quarantine_file = os.path.join(quarantine.uri, QUARANTINE_FILE)
        written = self._ingest(plan, examples, quarantine_file, exec_properties)
        most_bad = exec_properties[MAX_QUARANTINE_FRACTION_KEY]
        counts, identities = accounting.account(
            plan.divided, quarantine_file, written, exec_properties[SOURCE_KEY], most_bad
        )
        counts |= accounting.account_for_copies(os.path.join(quarantine.uri, REPEATED_FILE))
        fingerprint = exec_properties[FINGERPRINT_KEY] or plan.source.fingerprint()
        identity_counts.write(examples.uri, identities)
        _describe(examples, exec_properties[SPAN_KEY], counts, fingerprint)
        quarantine.set_int_custom_property("quarantined", counts["quarantined"])
        quarantine.set_int_custom_property("dropped", counts["dropped"])
        ignored = ({"path": path, "reason": reason} for path, reason in plan.listing.ignored)
        steps.write_lines(ignored, os.path.join(quarantine.uri, IGNORED_FILE))

    def _ingest(
        self,
        plan: _Plan,
        examples: types.Artifact,
        quarantine_file: str,
        exec_properties: dict[str, Any],
    ) -> dict[str, int]:
        """Runs the Beam pipeline; all files lie under their final names. Returns the records written by split."""
        folders = {split: os.path.join(examples.uri, f"Split-{split}") for split in _SPLITS}
        partial = os.path.join(examples.uri, "partial")
        counts_file = os.path.join(partial, "written.json")
        _renew([*folders.values(), partial])
        tf.io.gfile.makedirs(os.path.dirname(quarantine_file))
        listed = _write_listing(plan.listing.items, partial)
        with self._make_beam_pipeline() as pipeline:
            checked = (
                pipeline
                | "Listed" >> beam.Create(listed)
                | "Spread" >> beam.Reshuffle()
                | "Check" >> _check_images(plan, exec_properties[MAX_PIXELS_KEY], partial)
            )
            judged = (
                checked.rows
                | "ByContent" >> beam.GroupByKey()
                | "Copies" >> _judge_copies(exec_properties[CONTRADICTIONS_KEY], plan.buckets)
            )
            divide = steps.DivideIdentities(
                exec_properties[QUERY_FRACTION_KEY], exec_properties[SEED_KEY], plan.shards
            )
            rows = judged.rows | "ByIdentity" >> beam.GroupByKey() | "Divide" >> beam.ParDo(divide)
            _write_rows(rows, plan.shards, folders, counts_file, partial)
            bad = (checked[steps.BAD], judged[steps.BAD])
            _write_quarantine(pipeline, bad, plan.listing, quarantine_file, partial)
            _write_repeated(judged[steps.REPEATED], os.path.dirname(quarantine_file), partial)
        with tf.io.gfile.GFile(counts_file) as file:
            written = json.loads(file.read())
        tf.io.gfile.rmtree(partial)
        return written


def _plan(exec_properties: dict[str, Any], registry: str) -> _Plan:
    source = sources.open_source(
        exec_properties[SOURCE_KEY],
        exec_properties[LAYOUT_KEY],
        exec_properties[CAMERA_PATTERN_KEY],
        exec_properties[SPAN_KEY],
    )
    divided = division.divide(source, registry, exec_properties[EVAL_FRACTION_KEY], exec_properties[SEED_KEY])
    listing, held_out = divided.listing, divided.held_out
    images = collections.Counter(splits.output_split(item, held_out) for item in listing.items)
    for split in _SPLITS:
        if not images[split]:
            raise errors.UsageError(f"{exec_properties[SOURCE_KEY]}: no images for split '{split}'")
    if lacking := splits.lacking(listing.items, held_out):
        raise errors.UsageError(f"{exec_properties[SOURCE_KEY]}: {lacking}")
    shards = {split: -(-images[split] // _IMAGES_A_SHARD) for split in _SPLITS}
    return _Plan(source, divided, shards, -(-len(listing.items) // _ROWS_A_BUCKET))


def _write_listing(items: tuple[sources.Item, ...], partial: str) -> list[str]:
    """Writes the items to files of some hundred, so that the pipeline's description holds their names alone."""
    paths = []
    for begin in range(0, len(items), _ITEMS_A_FILE):
        paths.append(os.path.join(partial, f"items-{begin:09d}.jsonl"))
        rows = (dataclasses.asdict(item) for item in items[begin : begin + _ITEMS_A_FILE])
        steps.write_lines(rows, paths[-1])
    return paths


def _check_images(plan: _Plan, max_pixels: int, partial: str) -> beam.PTransform:
    check = steps.CheckImages(plan.source, plan.divided.held_out, max_pixels, partial, plan.buckets)
    return beam.ParDo(check).with_outputs(steps.BAD, main="rows")


def _judge_copies(contradictions: str, buckets: int) -> beam.PTransform:
    return beam.ParDo(steps.JudgeCopies(contradictions, buckets)).with_outputs(steps.BAD, steps.REPEATED, main="rows")


def _write_rows(
    rows: beam.PCollection, shards: Mapping[str, int], folders: Mapping[str, str], counts_file: str, partial: str
) -> None:
    _ = (
        rows
        | "ByShard" >> beam.GroupByKey()
        | "Write" >> beam.ParDo(steps.WriteShard(folders, shards, partial))
        | "GatherCounts" >> beam.combiners.ToList()
        | "WriteCounts" >> beam.Map(steps.write_counts, counts_file, partial)
    )


def _write_quarantine(
    pipeline: beam.Pipeline,
    bad: tuple[beam.PCollection, ...],
    listing: sources.Listing,
    path: str,
    partial: str,
) -> None:
    """Bad files are few, or the run stops: they pass through one worker."""
    misplaced = [steps.quarantine_row(*row) for row in (*listing.rejected, *listing.dropped)]
    _ = (
        (*bad, pipeline | "Misplaced" >> beam.Create(misplaced))
        | "AllBad" >> beam.Flatten()
        | "Gather" >> beam.combiners.ToList()
        | "WriteQuarantine" >> beam.Map(steps.write_quarantine, path, partial)
    )


def _write_repeated(repeated: beam.PCollection, folder: str, partial: str) -> None:
    _ = (
        repeated
        | "GatherRepeated" >> beam.combiners.ToList()
        | "WriteRepeated" >> beam.Map(steps.write_repeated, os.path.join(folder, REPEATED_FILE), partial)
    )


def _renew(folders: list[str]) -> None:
    """Empties folders: where an attempt died and is made again, shards must not mix."""
    for folder in folders:
        if tf.io.gfile.exists(folder):
            tf.io.gfile.rmtree(folder)
        tf.io.gfile.makedirs(folder)


def _describe(
    examples: types.Artifact, span: int, counts: Mapping[str, int], fingerprint: str
) -> None:
    """Puts on the artifact what later steps and reports look for."""
    examples.split_names = artifact_utils.encode_split_names(list(_SPLITS))
    examples.span = span  # TFX's own ExampleGen leaves it 0, and baselines are found by it
    examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    examples.set_string_custom_property(samples.FINGERPRINT_PROPERTY, fingerprint)
    for key, count in counts.items():
        examples.set_int_custom_property(key, count)

"""Counts each identity's training images, rebalances them and writes them shuffled."""

import dataclasses
import json
import logging
import os
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from longtail.components import config
from longtail.components.data import features
from longtail.components.rebalancer import census
from longtail.components.rebalancer import rows
from longtail.components.span_window import windows
from longtail.models import files
from longtail.models import settings

WINDOW_KEY = "window"
STRATEGY_KEY = "strategy"
HEAD_KEY = "head"
TAIL_IMAGES_KEY = "tail_images"
TAIL_CLASSES_KEY = "tail_classes"
TAIL_CAMERAS_KEY = "tail_cameras"
CAP_KEY = "cap"
REPEAT_TO_KEY = "repeat_to"
SEED_KEY = "seed"
LEAP_VARIANT_KEY = "leap_variant"
HEAD_THRESHOLD_KEY = "head_threshold"
REBALANCED_EXAMPLES_KEY = "rebalanced_examples"
CENSUS_KEY = "census"

log = logging.getLogger("longtail")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the train splits twice: to count, and to write."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the census and the rebalanced train split.

        Raises:
          errors.UsageError: a parameter out of range, a tail that would be head, no head class for a vanilla cloud, or
            a camera that is needed and unknown.
          errors.WorkError: images of a span are gone, or there are fewer than two identities.
        """
        asked = settings.pick(config.Rebalance, exec_properties)
        head_threshold = int(exec_properties[HEAD_THRESHOLD_KEY])
        census.check(asked)
        config.check_tail(asked, head_threshold)
        window = windows.read(artifact_utils.get_single_uri(input_dict[WINDOW_KEY]))
        rebalanced = artifact_utils.get_single_instance(output_dict[REBALANCED_EXAMPLES_KEY])
        census_uri = artifact_utils.get_single_uri(output_dict[CENSUS_KEY])
        windows.check(window.spans)
        fileio.makedirs(census_uri)
        found = self._count(window, census_uri)
        if asked.strategy == census.CARVE:
            config.check_cameras(asked.tail_cameras, (one.camera for one in found for _ in range(one.images)))
        plan = census.plan(
            census.totals(found), numbers=window.numbers, cameras=census.by_camera(found), **dataclasses.asdict(asked)
        )
        plan["spans"] = census.new_by_span(found, [one.span for one in window.spans])
        census.check_cloud(plan, exec_properties[LEAP_VARIANT_KEY], head_threshold)
        files.write_json(os.path.join(census_uri, census.CENSUS_FILE), plan, indent=None)
        self._write(window, census_uri, rebalanced.uri, asked.seed)
        rebalanced.split_names = artifact_utils.encode_split_names([features.TRAIN_SPLIT])
        rebalanced.span = window.new
        examples_utils.set_payload_format(
            rebalanced, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
        )
        log.info(
            "rebalanced by %s: %d identities, %d images, %d rows",
            *(asked.strategy, len(plan["classes"]), plan["images"], plan["rows"]),
        )

    def _count(self, window: windows.Window, folder: str) -> census.Found:
        """Counts each identity's distinct images and files by camera and first span, with Beam."""
        path = os.path.join(folder, "counts.json")
        with self._make_beam_pipeline() as pipeline:
            counted = [
                pipeline
                | f"Read{one.span}" >> beam.io.ReadFromTFRecord(one.pattern(features.TRAIN_SPLIT))
                | f"Image{one.span}" >> beam.FlatMap(rows.counted, one.span, window.withdrawals)
                for one in window.spans
            ]
            _ = (
                counted
                | "AllSpans" >> beam.Flatten()
                | "CountFiles" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(min, rows.lowest_known, sum))
                | "OneImage" >> beam.MapTuple(lambda image, found: ((image[0], *found[:2]), (1, found[2])))
                | "CountImages" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum))
                | "All" >> beam.combiners.ToList()
                | "WriteCounts" >> beam.Map(rows.write_counts, path)
            )
        with fileio.open(path, "r") as file:
            counts = json.loads(file.read())
        fileio.remove(path)
        return [census.Count(*row) for row in counts]

    def _write(self, window: windows.Window, census_uri: str, uri: str, seed: int) -> None:
        """Chooses, labels, shuffles and writes the images, with Beam."""
        folder = os.path.join(uri, f"Split-{features.TRAIN_SPLIT}")
        partial = os.path.join(uri, "partial")
        for made in (folder, partial):  # emptied, where an attempt died and is made again: shards must not mix
            if fileio.exists(made):
                fileio.rmtree(made)
            fileio.makedirs(made)
        with self._make_beam_pipeline() as pipeline:
            plan = beam.pvalue.AsSingleton(
                pipeline | "Census" >> beam.Create([census_uri]) | beam.Map(rows.load_plan)
            )
            spooled = [
                pipeline
                | f"Read{one.span}" >> beam.io.ReadFromTFRecord(one.pattern(features.TRAIN_SPLIT))
                | f"Spool{one.span}" >> beam.ParDo(rows.Spool(partial, window.withdrawals))
                for one in window.spans
            ]
            _ = (
                spooled
                | "AllSpans" >> beam.Flatten()
                | "ByIdentity" >> beam.GroupByKey()
                | "Place" >> beam.FlatMap(rows.place_rows, plan, seed)
                | "ByShard" >> beam.GroupByKey()
                | "WriteShard" >> beam.Map(rows.write_shard, plan, folder)
            )
        fileio.rmtree(partial)
        for left in tf.io.gfile.glob(os.path.join(uri, f"{files.UNFINISHED}*")):  # By workers that died.
            fileio.remove(left)

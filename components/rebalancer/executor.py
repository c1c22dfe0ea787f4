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
from longtail.models import errors
from longtail.models import files
from longtail.models import settings

EXAMPLES_KEY = "examples"
BLESSING_KEY = "blessing"
STRATEGY_KEY = "strategy"
HEAD_KEY = "head"
TAIL_IMAGES_KEY = "tail_images"
TAIL_CLASSES_KEY = "tail_classes"
CAP_KEY = "cap"
REPEAT_TO_KEY = "repeat_to"
SEED_KEY = "seed"
LEAP_VARIANT_KEY = "leap_variant"
HEAD_THRESHOLD_KEY = "head_threshold"
REBALANCED_EXAMPLES_KEY = "rebalanced_examples"
CENSUS_KEY = "census"

log = logging.getLogger("longtail")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the train split twice: to count, and to write."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the census and the rebalanced train split.

        Raises:
          errors.UsageError: a parameter out of range, a tail that would be head, or no head class for a vanilla cloud.
          errors.WorkError: no train split, or fewer than two identities in it.
        """
        asked = settings.pick(config.Rebalance, exec_properties)
        head_threshold = int(exec_properties[HEAD_THRESHOLD_KEY])
        census.check(asked)
        config.check_tail(asked, head_threshold)
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY])
        rebalanced = artifact_utils.get_single_instance(output_dict[REBALANCED_EXAMPLES_KEY])
        census_uri = artifact_utils.get_single_uri(output_dict[CENSUS_KEY])
        pattern = _train_pattern(examples)
        fileio.makedirs(census_uri)
        plan = census.plan(self._count(pattern, census_uri), **dataclasses.asdict(asked))
        census.check_cloud(plan, exec_properties[LEAP_VARIANT_KEY], head_threshold)
        files.write_json(os.path.join(census_uri, census.CENSUS_FILE), plan, indent=None)
        self._write(pattern, census_uri, rebalanced.uri, asked.seed)
        rebalanced.split_names = artifact_utils.encode_split_names([features.TRAIN_SPLIT])
        rebalanced.span = examples.span
        examples_utils.set_payload_format(
            rebalanced, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
        )
        log.info(
            "rebalanced by %s: %d identities, %d images, %d rows",
            *(asked.strategy, len(plan["classes"]), plan["images"], plan["rows"]),
        )

    def _count(self, pattern: str, folder: str) -> dict[str, tuple[int, int]]:
        """Counts each identity's distinct images and files, with Beam."""
        path = os.path.join(folder, "counts.json")
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Read" >> beam.io.ReadFromTFRecord(pattern)
                | "Image" >> beam.Map(rows.image_of)
                | "IdentityAndBytes" >> beam.Map(lambda image: (image[0], image[2]))
                | "CountFiles" >> beam.combiners.Count.PerElement()
                | "OneImage" >> beam.MapTuple(lambda image, files: (image[0], (1, files)))
                | "CountImages" >> beam.CombinePerKey(beam.combiners.TupleCombineFn(sum, sum))
                | "All" >> beam.combiners.ToList()
                | "WriteCounts" >> beam.Map(rows.write_counts, path)
            )
        with fileio.open(path, "r") as file:
            counts = json.loads(file.read())
        fileio.remove(path)
        return {identity: tuple(pair) for identity, pair in counts.items()}

    def _write(self, pattern: str, census_uri: str, uri: str, seed: int) -> None:
        """Chooses, labels, shuffles and writes the images, with Beam."""
        folder = os.path.join(uri, f"Split-{features.TRAIN_SPLIT}")
        fileio.makedirs(folder)
        with self._make_beam_pipeline() as pipeline:
            plan = beam.pvalue.AsSingleton(
                pipeline | "Census" >> beam.Create([census_uri]) | beam.Map(rows.load_plan)
            )
            records = (
                pipeline
                | "Read" >> beam.io.ReadFromTFRecord(pattern)
                | "KeyByImage" >> beam.Map(lambda record: (rows.image_of(record), record))
            )
            copies = (
                records
                | "Files" >> beam.Map(lambda pair: (pair[0][0], pair[0][1:]))
                | "ByIdentity" >> beam.GroupByKey()
                | "Choose" >> beam.FlatMap(rows.choose, plan, seed)
            )
            _ = (
                {"records": records, "copies": copies}
                | "Join" >> beam.CoGroupByKey()
                | "Label" >> beam.FlatMap(rows.make_rows, plan, seed)
                | "ByShard" >> beam.GroupByKey()
                | "WriteShard" >> beam.Map(rows.write_shard, plan, folder)
            )
        for left in tf.io.gfile.glob(os.path.join(uri, f"{files.UNFINISHED}*")):  # By workers that died.
            fileio.remove(left)


def _train_pattern(examples: types.Artifact) -> str:
    """Returns the pattern of the train split's files, or raises WorkError where there are none."""
    if features.TRAIN_SPLIT in artifact_utils.decode_split_names(examples.split_names):
        pattern = examples_utils.get_split_file_patterns([examples], features.TRAIN_SPLIT)[0]
        if fileio.glob(pattern):
            return pattern
    raise errors.WorkError(
        f"rebalancer: no train split in {examples.uri}: ingest again with an eval_fraction below 1"
    )

"""Draws the sample of a span."""

import os
from typing import Any

from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from longtail.components.data import features
from longtail.components.data import samples

EXAMPLES_KEY = "examples"
SAMPLE_KEY = "sample"
IMAGES_KEY = "images"

IMAGES_PROPERTY = "images"  # of the sample: how many it holds


class Executor(base_executor.BaseExecutor):
    """See `component.SpanSampler`."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes sample and table."""
        images = int(exec_properties[IMAGES_KEY])
        train, held_out = (
            _files(input_dict[EXAMPLES_KEY], split) for split in (features.TRAIN_SPLIT, features.EVAL_SPLIT)
        )
        sample = artifact_utils.get_single_instance(output_dict[SAMPLE_KEY])
        sample.set_int_custom_property(IMAGES_PROPERTY, samples.draw(train, held_out, sample.uri, images))
        [examples] = input_dict[EXAMPLES_KEY]
        fingerprint = examples.get_string_custom_property(samples.FINGERPRINT_PROPERTY)
        sample.set_string_custom_property(samples.FINGERPRINT_PROPERTY, fingerprint)


def _files(examples: list[types.Artifact], split: str) -> list[str]:
    patterns = examples_utils.get_split_file_patterns(examples, split)
    return sorted(os.fsdecode(path) for pattern in patterns for path in fileio.glob(pattern))

"""Embeds both samples with the last blessed model, and reports how far apart they are."""

import json
import logging
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from longtail.components import drift_report
from longtail.components import embedding
from longtail.components.baseline_finder import executor as finder
from longtail.components.data import features
from longtail.components.data import samples
from longtail.components.drift import distances
from longtail.components.drift import permutation
from longtail.models.export import signatures

SAMPLE_KEY = "sample"
BASELINE_SAMPLE_KEY = "baseline_sample"
BASELINE_MODEL_KEY = "baseline_model"
THRESHOLDS_KEY = "thresholds"
REPORT_KEY = "report"

# Fewer images that can be embedded, or fewer identities, tell nothing.
LEAST_IMAGES = 20
LEAST_IDENTITIES = 5
# Of a span; distances between all of both sides take 128 MiB. More than `drift.sample` gives by default.
MOST_IMAGES = 2000

log = logging.getLogger("longtail")


class Executor(base_executor.BaseExecutor):
    """See `component.EmbeddingDrift`."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the report.

        Raises:
          errors.WorkError: the model cannot be loaded, or fails.
        """
        rows, note = self._compare(input_dict, json.loads(exec_properties[THRESHOLDS_KEY]))
        if note:
            log.info("%s", note)
        drift_report.write(artifact_utils.get_single_uri(output_dict[REPORT_KEY]), rows, note)

    def _compare(
        self, input_dict: dict[str, list[types.Artifact]], thresholds: dict[str, float]
    ) -> tuple[list[dict[str, Any]], str]:
        """Returns the rows, and a note that says why there are none."""
        baseline = artifact_utils.get_single_instance(input_dict[BASELINE_SAMPLE_KEY])
        model = artifact_utils.get_single_instance(input_dict[BASELINE_MODEL_KEY])
        if baseline.get_int_custom_property(finder.COLD_START_PROPERTY):
            return [], "embedding drift not compared: no span was accepted before"
        if not model.get_int_custom_property(finder.FOUND_PROPERTY):
            return [], "embedding drift not compared: no model was blessed before"
        embedder = embedding.Embedder(path_utils.serving_model_path(model.uri))
        sides = []
        for name, uri in (
            ("the span", artifact_utils.get_single_uri(input_dict[SAMPLE_KEY])),
            ("the accepted span", baseline.uri),
        ):
            vectors, identity = _embed(embedder, uri)
            if len(vectors) < LEAST_IMAGES or len(np.unique(identity)) < LEAST_IDENTITIES:
                return [], (
                    f"embedding drift not compared: {name} has {len(vectors)} held-out images of "
                    f"{len(np.unique(identity))} identities that the last model can embed, fewer than "
                    f"{LEAST_IMAGES} of {LEAST_IDENTITIES}"
                )
            sides.append((vectors, identity))
        rows = distances.compare(*sides[0], *sides[1], thresholds)
        return rows, _left_out(rows)


def _left_out(rows: list[dict[str, Any]]) -> str:
    """A note on the features without a row, or ""."""
    left_out = [name for name in features.EMBEDDING if name not in {row["feature"] for row in rows}]
    # There is no own centre where identities are new.
    if features.EMBEDDING_ANGLE not in left_out and features.EMBEDDING_SHAPE not in left_out:
        return ""
    return (
        f"{' and '.join(left_out)} not compared: fewer than {permutation.LEAST_EXCHANGEABLE} held-out identities could "
        f"change sides between the spans, too few to tell drift from chance"
    )


def _embed(embedder: embedding.Embedder, uri: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [N, d] and identities uint64 [N] of a sample's held-out images, but those that give none.

    The first `MOST_IMAGES`: a sample goes identity by identity, in an order that two spans share.
    """
    encoded, identity, held_out = samples.read_images(uri)
    encoded, identity = encoded[held_out][:MOST_IMAGES], identity[held_out][:MOST_IMAGES]
    vectors, status = embedding.embed_images(embedder, encoded)
    good = status == signatures.STATUS_OK
    return vectors[good], np.array([samples.hash_of(name) for name in identity], np.uint64)[good]

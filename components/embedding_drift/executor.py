"""Embeds both samples with the last blessed model, and reports how far apart they are."""

import json
import logging
from typing import Any

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components import embedding
from components import samples
from components.baseline_finder import executor as finder
from components.drift_gate import findings
from components.embedding_drift import distances
from models import signatures

SAMPLE_KEY = "sample"
BASELINE_SAMPLE_KEY = "baseline_sample"
BASELINE_MODEL_KEY = "baseline_model"
THRESHOLDS_KEY = "thresholds"
REPORT_KEY = "report"

# Fewer images that can be embedded, or fewer identities, tell nothing.
LEAST_IMAGES = 20
LEAST_IDENTITIES = 5

_LOG = logging.getLogger("longtail")


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
            _LOG.info("%s", note)
        findings.write_report(artifact_utils.get_single_uri(output_dict[REPORT_KEY]), rows, note)

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
            sides += [vectors, identity]
        return distances.compare(*sides, thresholds), ""


def _embed(embedder: embedding.Embedder, uri: str) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [N, d] and identities uint64 [N] of a sample's held-out images, but those that give none."""
    encoded, identity, held_out = samples.read_images(uri)
    vectors, status = embedding.embed_images(embedder, encoded[held_out])
    good = status == signatures.STATUS_OK
    return vectors[good], np.array([samples.hash_of(name) for name in identity[held_out]], np.uint64)[good]

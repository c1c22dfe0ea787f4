"""RetrievalEvaluator's work: embed the eval images, rank them, compare with the last blessed."""

import dataclasses
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tfx import types
from tfx.components.evaluator import constants
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx.utils import path_utils

from longtail.components import embedding
from longtail.components.baseline_finder import executor as finder
from longtail.components.data import features
from longtail.components.retrieval_evaluator import details
from longtail.components.retrieval_evaluator import judgement
from longtail.components.retrieval_evaluator import pixels as pixels_lib
from longtail.components.retrieval_evaluator import scoring
from longtail.models import errors
from longtail.models import files as files_lib
from longtail.models.export import signatures
from longtail.models.metrics import metric
from longtail.models.metrics import protocols

EXAMPLES_KEY = "examples"
MODEL_KEY = "model"
BASELINE_MODEL_KEY = "baseline_model"
EVALUATION_KEY = "evaluation"
BLESSING_KEY = "blessing"
PROTOCOL_KEY = "protocol"
HEAD_THRESHOLD_KEY = "head_threshold"
FLOOR_MAP_KEY = "floor_map"
MARGIN_KEY = "margin"
MARGIN_END_KEY = "margin_end"
MAX_UNDECODABLE_KEY = "max_undecodable"
BEAT_PIXELS_KEY = "beat_pixels"

METRICS_FILE = "metrics.json"
THRESHOLDS_FILE = "thresholds.json"
REASON_PROPERTY = "reason"  # of the blessing: why not

log = logging.getLogger("longtail")


class Executor(base_executor.BaseExecutor):
    """Scores the candidate and the baseline, and writes evaluation and blessing."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `component.RetrievalEvaluator`.

        Raises:
          errors.UsageError: an unknown protocol.
          errors.WorkError: there is nothing to score, the protocol crosses cameras that are unknown,
            or a model cannot be loaded, embeds no image, or gives values that are not finite.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        model = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
        baseline = _baseline(input_dict)
        protocol = protocols.find(exec_properties[PROTOCOL_KEY], "evaluation.protocol")
        files = _eval_files(input_dict[EXAMPLES_KEY])
        rows = _read_rows(files)
        _check(rows, protocol, files)

        outcome = _judge(model, baseline, files, rows, exec_properties)
        evaluation = artifact_utils.get_single_instance(output_dict[EVALUATION_KEY])
        files_lib.write_json(os.path.join(evaluation.uri, THRESHOLDS_FILE), outcome.pop("thresholds"))
        files_lib.write_json(os.path.join(evaluation.uri, details.DETAILS_FILE), outcome.pop("details"), indent=None)
        _write_metrics(evaluation.uri, outcome, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING_KEY])
        _write_blessing(blessing, model, baseline, outcome["reason"], exec_properties)
        _log_outcome(outcome)


def _baseline(input_dict: dict[str, list[types.Artifact]]) -> types.Artifact | None:
    """The last blessed model, or None on a cold start."""
    if not input_dict.get(BASELINE_MODEL_KEY):
        return None
    artifact = artifact_utils.get_single_instance(input_dict[BASELINE_MODEL_KEY])
    if artifact.has_custom_property(finder.FOUND_PROPERTY):
        return artifact if artifact.get_int_custom_property(finder.FOUND_PROPERTY) else None
    return artifact


def _eval_files(examples: list[types.Artifact]) -> list[str]:
    patterns = examples_utils.get_split_file_patterns(examples, features.EVAL_SPLIT)
    return sorted(os.fsdecode(path) for pattern in patterns for path in fileio.glob(pattern))


def _records(files: list[str]) -> Iterator[tf.train.Example]:
    for path in files:
        compression = "GZIP" if path.endswith(".gz") else ""
        try:
            for record in tf.data.TFRecordDataset(path, compression).as_numpy_iterator():
                yield tf.train.Example.FromString(record)
        except tf.errors.DataLossError as error:
            raise errors.WorkError(
                f"{path}: damaged or cut short; put it back, or run again with another --root"
            ) from error


def _read_rows(files: list[str]) -> scoring.EvalRows:
    rows = [
        (
            row.features.feature[features.IDENTITY].bytes_list.value[0],
            row.features.feature[features.SHA256].bytes_list.value[0],
            row.features.feature[features.CAMERA].int64_list.value[0],
            row.features.feature[features.SPLIT].bytes_list.value[0],
        )
        for row in _records(files)
    ]
    identity, digest, camera, split = zip(*rows, strict=True) if rows else ((), (), (), ())
    return scoring.EvalRows(
        np.array(identity, "S"), np.array(digest, "S"), np.array(camera, np.int64), np.array(split, "S")
    )


def _check(rows: scoring.EvalRows, protocol: protocols.Protocol, files: list[str]) -> None:
    if not len(rows.identity):
        raise errors.WorkError(
            f"the eval split is empty ({len(files)} files): raise the share of identities held out"
        )
    unknown = int((rows.camera < 0).sum())
    if protocol.cross_camera and unknown:
        raise errors.WorkError(
            f"evaluation.protocol: {protocol.name} crosses cameras, but {unknown} of {len(rows.camera)} eval images "
            "have none: give data.camera_pattern, which reads it from file names, or another protocol"
        )


def _judge(
    model: types.Artifact,
    baseline: types.Artifact | None,
    files: list[str],
    rows: scoring.EvalRows,
    properties: dict[str, Any],
) -> dict[str, Any]:
    """Figures of both models and of pixels over the images that both can embed, and what follows from them."""
    protocol, threshold = protocols.PROTOCOLS[properties[PROTOCOL_KEY]], properties[HEAD_THRESHOLD_KEY]
    embedded = _embed(model, files)
    usable, other = embedded.usable, None
    if baseline is not None:
        try:
            other = _embed(baseline, files)
        except errors.WorkError as error:
            raise errors.WorkError(f"the last blessed model cannot be scored: {error}") from error
        usable = usable & other.usable  # of other images there is no comparison
    candidate = scoring.score(embedded, usable, rows, protocol, threshold)
    last = scoring.score(other, usable, rows, protocol, threshold) if other else None
    pictures = scoring.Embedded(*pixels_lib.read(_images(files)))
    trivial = scoring.score_pixels(pictures, usable, rows, protocol, threshold)
    pixels = trivial[0].figures if trivial else None
    found = judgement.difference(candidate, last) if last else None
    rules = judgement.Rules(
        floor_map=properties[FLOOR_MAP_KEY],
        margin=properties[MARGIN_KEY],
        margin_end=properties[MARGIN_END_KEY],
        max_undecodable=properties[MAX_UNDECODABLE_KEY],
        beat_pixels=bool(properties[BEAT_PIXELS_KEY]),
    )
    baseline_figures = last.figures if last else None
    thresholds, doubt = scoring.thresholds(embedded, rows)
    models = {"candidate": (candidate, embedded), "pixels": trivial, "last blessed": last and other and (last, other)}
    warnings = judgement.warnings(candidate.figures, embedded.vectors[usable], pixels)
    return {
        "candidate": {**candidate.figures, "pixels": pixels},
        "baseline": baseline_figures,
        "difference": dataclasses.asdict(found) if found else None,
        "thresholds": thresholds,
        "warnings": [*warnings, *doubt],
        "reason": judgement.reason_against(candidate.figures, baseline_figures, found, pixels, rules),
        "details": _details({name: both for name, both in models.items() if both}, usable, rows, protocol, files),
    }


def _details(models, usable, rows, protocol, files: list[str]) -> dict[str, Any]:
    """What a report shows, with its pictures."""
    scored, embedded = ({name: both[at] for name, both in models.items()} for at in (0, 1))
    found = details.details(scored, embedded, usable, rows, protocol)
    return {**found, "images": details.pictures(found, _records(files))}


def _images(files: list[str]) -> Iterator[bytes]:
    return (row.features.feature[features.ENCODED].bytes_list.value[0] for row in _records(files))


def _embed(model: types.Artifact, files: list[str]) -> scoring.Embedded:
    """Embeds the eval images."""
    embedder = embedding.Embedder(path_utils.serving_model_path(model.uri))
    vectors, status = embedding.embed_images(embedder, _images(files))
    usable = status == signatures.STATUS_OK
    if not usable.any():
        raise errors.WorkError(f"{embedder.uri}: cannot embed any of {len(status)} eval images; export it anew")
    return scoring.Embedded(vectors, usable)


def _write_metrics(uri: str, outcome: dict[str, Any], properties: dict[str, Any]) -> None:
    metrics = {
        "protocol": properties[PROTOCOL_KEY],
        "head_threshold": properties[HEAD_THRESHOLD_KEY],
        "floor_map": properties[FLOOR_MAP_KEY],
        "margin": properties[MARGIN_KEY],
        "margin_end": properties[MARGIN_END_KEY],
        "max_undecodable": properties[MAX_UNDECODABLE_KEY],
        "beat_pixels": bool(properties[BEAT_PIXELS_KEY]),
        **{name: outcome["candidate"][name] for name in ("queries", "gallery", "undecodable")},
        **outcome,
        "blessed": not outcome["reason"],
    }
    files_lib.write_json(os.path.join(uri, METRICS_FILE), metrics)


def _write_blessing(
    blessing: types.Artifact,
    model: types.Artifact,
    baseline: types.Artifact | None,
    reason: str,
    properties: dict[str, Any],
) -> None:
    """Writes what TFX's own Evaluator writes, so that its Pusher and resolvers understand it."""
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    if "current_component_id" in properties:
        blessing.set_string_custom_property("component_id", properties["current_component_id"])
    blessing.set_string_custom_property(REASON_PROPERTY, reason)
    value = constants.NOT_BLESSED_VALUE if reason else constants.BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    name = constants.NOT_BLESSED_FILE_NAME if reason else constants.BLESSED_FILE_NAME
    io_utils.write_string_file(os.path.join(blessing.uri, name), "")


def _log_outcome(outcome: dict[str, Any]) -> None:
    candidate, baseline, reason = outcome["candidate"], outcome["baseline"], outcome["reason"]
    for line in outcome["warnings"]:
        log.warning("%s", line)
    against = "no blessed model yet"
    if baseline:
        found = judgement.Difference(**outcome["difference"])
        against = f"{found} than the last blessed model: {metric.line(baseline)}"
    if candidate["pixels"]:
        against += f"; {candidate['pixels']['embedding']}: {metric.line(candidate['pixels'])}"
    verdict = f"not blessed: {reason}" if reason else "blessed"
    log.info("%s over %d queries (%s): %s", metric.line(candidate), candidate["queries"], against, verdict)

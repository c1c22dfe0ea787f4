"""RetrievalEvaluator's work: embed the eval images, rank them, compare with the last blessed."""

import collections
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
from longtail.models import errors
from longtail.models import files as files_lib
from longtail.models import head_tail
from longtail.models.export import signatures
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval

EXAMPLES_KEY = "examples"
MODEL_KEY = "model"
BASELINE_MODEL_KEY = "baseline_model"
EVALUATION_KEY = "evaluation"
BLESSING_KEY = "blessing"
PROTOCOL_KEY = "protocol"
HEAD_THRESHOLD_KEY = "head_threshold"
FLOOR_MAP_KEY = "floor_map"
MARGIN_KEY = "margin"
MAX_UNDECODABLE_KEY = "max_undecodable"

METRICS_FILE = "metrics.json"
REASON_PROPERTY = "reason"  # of the blessing: why not

log = logging.getLogger("longtail")


@dataclasses.dataclass(frozen=True)
class _EvalRows:
    """What is known of each eval image but its pixels, in the order of the files."""

    identity: np.ndarray  # bytes [N]
    digest: np.ndarray  # bytes [N], sha256 of the file
    camera: np.ndarray  # int64 [N]
    split: np.ndarray  # bytes [N], query or gallery


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
          errors.UsageError: a parameter out of range.
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

        candidate_scores, baseline_scores = _compare(model, baseline, files, rows, exec_properties)
        reason = _reason_against(candidate_scores, baseline_scores, exec_properties)

        evaluation = artifact_utils.get_single_instance(output_dict[EVALUATION_KEY])
        _write_metrics(evaluation.uri, candidate_scores, baseline_scores, reason, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING_KEY])
        _write_blessing(blessing, model, baseline, reason, exec_properties)
        _log_outcome(candidate_scores, baseline_scores, reason)


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
        for record in tf.data.TFRecordDataset(path, compression).as_numpy_iterator():
            yield tf.train.Example.FromString(record)


def _read_rows(files: list[str]) -> _EvalRows:
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
    return _EvalRows(
        np.array(identity, "S"), np.array(digest, "S"), np.array(camera, np.int64), np.array(split, "S")
    )


def _check(rows: _EvalRows, protocol: protocols.Protocol, files: list[str]) -> None:
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


def _compare(
    model: types.Artifact,
    baseline: types.Artifact | None,
    files: list[str],
    rows: _EvalRows,
    properties: dict[str, Any],
) -> tuple[dict, dict | None]:
    """Figures of both models over the images that both can embed, since others are no comparison."""
    vectors, usable = _embed(model, files)
    if baseline is None:
        return _score(vectors, usable, usable, rows, properties), None
    try:
        baseline_vectors, baseline_usable = _embed(baseline, files)
    except errors.WorkError as error:
        raise errors.WorkError(f"the last blessed model cannot be scored: {error}") from error
    both = usable & baseline_usable
    return (
        _score(vectors, usable, both, rows, properties),
        _score(baseline_vectors, baseline_usable, both, rows, properties),
    )


def _embed(model: types.Artifact, files: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings float32 [N, d] of the eval images, and which of them are any: bool [N]."""
    embedder = embedding.Embedder(path_utils.serving_model_path(model.uri))
    images = (row.features.feature[features.ENCODED].bytes_list.value[0] for row in _records(files))
    vectors, status = embedding.embed_images(embedder, images)
    usable = status == signatures.STATUS_OK
    if not usable.any():
        raise errors.WorkError(f"{embedder.uri}: cannot embed any of {len(status)} eval images; export it anew")
    return vectors, usable


def _score(
    vectors: np.ndarray, own: np.ndarray, usable: np.ndarray, rows: _EvalRows, properties: dict[str, Any]
) -> dict:
    """Retrieval figures over the `usable` images: overall, `head`, `tail`; and how many are not the model's `own`."""
    protocol = protocols.PROTOCOLS[properties[PROTOCOL_KEY]]
    everyone, crossed = not protocol.divided, protocol.cross_camera
    query = usable & (everyone | (rows.split == features.QUERY))
    gallery = usable & (everyone | (rows.split == features.GALLERY))
    for images in (query, gallery):  # copies of a file count once
        images[images] = retrieval.distinct(rows.identity[images], rows.digest[images])
    head = _of_head(rows, properties[HEAD_THRESHOLD_KEY])[query]
    scores = retrieval.evaluate_retrieval(
        vectors[query],
        rows.identity[query],
        vectors[gallery],
        rows.identity[gallery],
        query_cameras=rows.camera[query] if crossed else None,
        gallery_cameras=rows.camera[gallery] if crossed else None,
        query_files=rows.digest[query],
        gallery_files=rows.digest[gallery],
        exclude_self=everyone,
        slices={"head": head, "tail": ~head},
    )
    slices = scores.pop("slices")
    return {**scores, **slices, "images": len(own), "undecodable": int((~own).sum())}


def _of_head(rows: _EvalRows, threshold: int) -> np.ndarray:
    """bool [N]: images of head identities; the same file twice is one image, as it is in training."""
    names = rows.identity.tolist()
    images = collections.Counter(name for name, _ in set(zip(names, rows.digest.tolist(), strict=True)))
    return head_tail.is_head([images[name] for name in names], threshold)


def _reason_against(candidate: dict, baseline: dict | None, properties: dict[str, Any]) -> str:
    """Why the candidate must not be pushed, in one line; empty where nothing speaks against it."""
    floor, margin, most = properties[FLOOR_MAP_KEY], properties[MARGIN_KEY], properties[MAX_UNDECODABLE_KEY]
    refused, images = candidate["undecodable"], candidate["images"]
    if refused > most * images:
        return f"{refused} of {images} images cannot be embedded, more than {MAX_UNDECODABLE_KEY}={most:g} allows"
    if candidate["mAP"] < floor:
        return f"mAP {candidate['mAP']:.4f} is below the floor of {floor:.4f}"
    if baseline is None:
        return ""
    if candidate["mAP"] < baseline["mAP"] - margin:
        return (
            f"mAP {candidate['mAP']:.4f} is more than {margin:.4f} below the last blessed model's "
            f"{baseline['mAP']:.4f} on the same images"
        )
    if candidate["undecodable"] > baseline["undecodable"]:
        return (
            f"{refused} images cannot be embedded, where the last blessed model "
            f"leaves out {baseline['undecodable']}"
        )
    return ""


def _write_metrics(
    uri: str, candidate: dict, baseline: dict | None, reason: str, properties: dict[str, Any]
) -> None:
    metrics = {
        "protocol": properties[PROTOCOL_KEY],
        "head_threshold": properties[HEAD_THRESHOLD_KEY],
        "floor_map": properties[FLOOR_MAP_KEY],
        "margin": properties[MARGIN_KEY],
        "max_undecodable": properties[MAX_UNDECODABLE_KEY],
        **{name: candidate[name] for name in ("queries", "gallery", "undecodable")},
        "candidate": candidate,
        "baseline": baseline,
        "blessed": not reason,
        "reason": reason,
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


def _log_outcome(candidate: dict, baseline: dict | None, reason: str) -> None:
    against = f"last blessed model: {metric.line(baseline)}" if baseline else "no blessed model yet"
    verdict = f"not blessed: {reason}" if reason else "blessed"
    log.info(
        "%s over %d queries (%s): %s", metric.line(candidate), candidate["queries"], against, verdict
    )

"""RetrievalEvaluator's work: embed the eval images, rank them, compare with the last blessed."""

import dataclasses
import logging
import os
from typing import Any

from tfx import types
from tfx.components.evaluator import constants
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx.utils import path_utils

from longtail.components import embedding
from longtail.components.baseline_finder import executor as finder
from longtail.components.retrieval_evaluator import by_span
from longtail.components.retrieval_evaluator import details
from longtail.components.retrieval_evaluator import held_out
from longtail.components.retrieval_evaluator import judgement
from longtail.components.retrieval_evaluator import pixels as pixels_lib
from longtail.components.retrieval_evaluator import scoring
from longtail.components.span_window import windows
from longtail.models import errors
from longtail.models import files as files_lib
from longtail.models.export import signatures
from longtail.models.metrics import metric
from longtail.models.metrics import protocols

WINDOW_KEY = "window"
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
EARLIER_IMAGES_KEY = "earlier_images"
ACCEPT_SCORES_KEY = "accept_scores"

METRICS_FILE = "metrics.json"
THRESHOLDS_FILE = "thresholds.json"
REASON_PROPERTY = "reason"  # of the blessing: why not
ACCEPT_SCORES_PROPERTY = "accept_scores"  # of the blessing: why although its scores speak against it

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
        window = windows.read(artifact_utils.get_single_uri(input_dict[WINDOW_KEY]))
        images = held_out.HeldOut(window, exec_properties[EARLIER_IMAGES_KEY])
        rows = images.rows()
        _check(rows, protocol)
        outcome = _judge(model, baseline, images, rows, exec_properties)
        evaluation = artifact_utils.get_single_instance(output_dict[EVALUATION_KEY])
        files_lib.write_json(os.path.join(evaluation.uri, THRESHOLDS_FILE), outcome.pop("thresholds"))
        files_lib.write_json(os.path.join(evaluation.uri, details.DETAILS_FILE), outcome.pop("details"), indent=None)
        _write_metrics(evaluation.uri, outcome, exec_properties)
        blessing = artifact_utils.get_single_instance(output_dict[BLESSING_KEY])
        _write_blessing(blessing, model, baseline, outcome, exec_properties)
        _log_outcome(outcome)


def _baseline(input_dict: dict[str, list[types.Artifact]]) -> types.Artifact | None:
    """The last blessed model, or None on a cold start."""
    if not input_dict.get(BASELINE_MODEL_KEY):
        return None
    artifact = artifact_utils.get_single_instance(input_dict[BASELINE_MODEL_KEY])
    if artifact.has_custom_property(finder.FOUND_PROPERTY):
        return artifact if artifact.get_int_custom_property(finder.FOUND_PROPERTY) else None
    return artifact


def _check(rows: scoring.EvalRows, protocol: protocols.Protocol) -> None:
    unknown = int((rows.camera < 0).sum())
    if protocol.cross_camera and unknown:
        raise errors.WorkError(
            f"evaluation.protocol: {protocol.name} crosses cameras, but {unknown} of {len(rows.camera)} eval images "
            "have none: give data.camera_pattern, which reads it from file names, or another protocol"
        )


def _judge(
    model: types.Artifact,
    baseline: types.Artifact | None,
    images: held_out.HeldOut,
    rows: scoring.EvalRows,
    properties: dict[str, Any],
) -> dict[str, Any]:
    """Figures of both models and of pixels over the images that both can embed, and what follows from them."""
    protocol, threshold = protocols.PROTOCOLS[properties[PROTOCOL_KEY]], properties[HEAD_THRESHOLD_KEY]
    embedded = _embed(model, images)
    usable, other = embedded.usable, None
    if baseline is not None:
        try:
            other = _embed(baseline, images)
        except errors.WorkError as error:
            raise errors.WorkError(f"the last blessed model cannot be scored: {error}") from error
        usable = usable & other.usable  # of other images there is no comparison
    candidate = scoring.score(embedded, usable, rows, protocol, threshold)
    last = scoring.score(other, usable, rows, protocol, threshold) if other else None
    pictures = scoring.Embedded(*pixels_lib.read(images.images()))
    trivial = scoring.score_pixels(pictures, usable, rows, protocol, threshold)
    pixels = trivial[0].figures if trivial else None
    found = judgement.difference(candidate, last) if last else None
    rules = _rules(properties)
    baseline_figures = last.figures if last else None
    thresholds, doubt = scoring.thresholds(embedded, rows)
    models = {"candidate": (candidate, embedded), "pixels": trivial, "last blessed": last and other and (last, other)}
    warnings = judgement.warnings(candidate.figures, embedded.vectors[usable], pixels)
    spans = by_span.score(embedded, other, usable, rows, protocol, threshold)

    against = (candidate.figures, baseline_figures, found, pixels)
    low = by_span.reasons_against(spans, rules)
    reason = judgement.reason_against(*against, rules) or (low[0] + judgement.ANYWAY if low else "")
    accepted, why = None, errors.shown(properties[ACCEPT_SCORES_KEY].strip())
    if reason and why and not judgement.reason_against(*against, rules.without_scores()):
        although = "; ".join([*judgement.too_low(candidate.figures, baseline_figures, found, rules), *low])
        reason, accepted = "", {"reason": why, "although": although}
        warnings.append(f"blessed although {although}. The reason given: {why}")
    return {
        "candidate": {**candidate.figures, "pixels": pixels},
        "baseline": baseline_figures,
        "difference": dataclasses.asdict(found) if found else None,
        "thresholds": thresholds,
        "warnings": [*warnings, *doubt],
        "held_out": len(set(rows.identity.tolist())),
        "by_span": [one.told() for one in spans],
        "reason": reason,
        "accept_scores": accepted,
        "details": _details({name: both for name, both in models.items() if both}, usable, rows, protocol, images),
    }


def _rules(properties: dict[str, Any]) -> judgement.Rules:
    return judgement.Rules(
        floor_map=properties[FLOOR_MAP_KEY],
        margin=properties[MARGIN_KEY],
        margin_end=properties[MARGIN_END_KEY],
        max_undecodable=properties[MAX_UNDECODABLE_KEY],
        beat_pixels=bool(properties[BEAT_PIXELS_KEY]),
    )


def _details(models, usable, rows, protocol, images: held_out.HeldOut) -> dict[str, Any]:
    """What a report shows, with its pictures."""
    scored, embedded = ({name: both[at] for name, both in models.items()} for at in (0, 1))
    found = details.details(scored, embedded, usable, rows, protocol)
    return {**found, "images": details.pictures(found, (record for _, record in images.records()))}


def _embed(model: types.Artifact, images: held_out.HeldOut) -> scoring.Embedded:
    """Embeds the eval images."""
    embedder = embedding.Embedder(path_utils.serving_model_path(model.uri))
    vectors, status = embedding.embed_images(embedder, images.images())
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
        "earlier_images": properties[EARLIER_IMAGES_KEY],
        **{name: outcome["candidate"][name] for name in ("queries", "gallery", "undecodable")},
        **outcome,
        "blessed": not outcome["reason"],
    }
    files_lib.write_json(os.path.join(uri, METRICS_FILE), metrics)


def _write_blessing(
    blessing: types.Artifact,
    model: types.Artifact,
    baseline: types.Artifact | None,
    outcome: dict[str, Any],
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
    reason, accepted = outcome["reason"], outcome["accept_scores"]
    blessing.set_string_custom_property(REASON_PROPERTY, reason)
    if accepted:
        blessing.set_string_custom_property(ACCEPT_SCORES_PROPERTY, accepted["reason"])
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

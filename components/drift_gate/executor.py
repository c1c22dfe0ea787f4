"""Stops a span that breaks the schema or drifted; makes any other a baseline."""

import datetime
import logging
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from longtail.components import drift_report
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components import runtime
from longtail.components.baseline_finder import executor as finder
from longtail.components.data import identity_counts
from longtail.components.data import samples
from longtail.components.drift import rows as rows_lib
from longtail.components.drift_gate import anomalies
from longtail.models import errors
from longtail.models import files

EXAMPLES_KEY = "examples"
STATISTICS_KEY = "statistics"
BASELINE_STATISTICS_KEY = "baseline_statistics"
SCHEMA_ANOMALIES_KEY = "schema_anomalies"
DRIFT_ANOMALIES_KEY = "drift_anomalies"
SAMPLE_KEY = "sample"
# Optional inputs, each a DriftReport; every row in any of them is judged alike.
REPORT_KEYS = ("data_report", "embedding_report", "skew_report")
SPAN_KEY = "span"
REGISTRY_KEY = "registry"
ACCEPT_DRIFT_KEY = "accept_drift"
MODEL_NAME_KEY = "model_name"
BLESSING_KEY = "blessing"

# Custom properties of the blessing, beside `finder.BASELINE_SPAN_PROPERTY`.
BLESSED_PROPERTY = "blessed"
SPAN_PROPERTY = "span"
VERDICT_PROPERTY = "verdict"
ACCEPT_DRIFT_PROPERTY = "accept_drift"

BLESSING_FILE = "blessing.json"

ACCEPTED = "accepted"
OVERRIDDEN = "overridden"
REFUSED = "refused"

log = logging.getLogger("longtail")


class Executor(base_executor.BaseExecutor):
    """Judges a span by what the validators found of it."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Keeps what is judged, writes the report, then either makes it a baseline and blesses, or raises.

        TFX deletes what a failed execution wrote, so all of that lies in the registry.

        Raises:
          errors.WorkError: the span is refused.
        """
        registry = runtime.folder(exec_properties[REGISTRY_KEY], exec_properties.get(MODEL_NAME_KEY, ""))
        statistics = artifact_utils.get_single_instance(input_dict[STATISTICS_KEY])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        sample = artifact_utils.get_single_instance(input_dict[SAMPLE_KEY])
        data = sample.get_string_custom_property(samples.FINGERPRINT_PROPERTY)
        report = self._judge(input_dict, exec_properties, registry, data)
        span = report["span"]
        report["kept"] = registry_lib.keep(registry, span, statistics.uri, splits, sample.uri)
        report["fingerprint"] = registry_lib.fingerprint(statistics.uri, splits)
        if report["verdict"] == REFUSED:
            registry_lib.report(registry, span, report)
            path = registry_lib.report_path(registry, span)
            raise errors.WorkError(f"{_refusal(report)}; look at {path}; {_CONSEQUENCE}")
        reason = report["accept_drift"] if report["verdict"] == OVERRIDDEN else ""
        about = _remember(registry, span, artifact_utils.get_single_uri(input_dict[EXAMPLES_KEY]))
        replaced = registry_lib.accept(registry, span, report["kept"], report["baseline_span"], data, reason, about)
        registry_lib.report(registry, span, report, replaced)
        self._bless(artifact_utils.get_single_instance(output_dict[BLESSING_KEY]), report)
        log.info("%s", _acceptance(report))

    def _judge(
        self, input_dict: dict[str, list[types.Artifact]], properties: dict[str, Any], registry: str, data: str
    ) -> dict[str, Any]:
        """Returns the report.

        Drift can be accepted for a reason; a broken schema cannot. The very data that was accepted for a reason stays
        accepted for it, but not what serving is asked about since. A first span is compared with nothing but that.
        """
        baseline = artifact_utils.get_single_instance(input_dict[BASELINE_STATISTICS_KEY])
        rows, notes = _rows(input_dict)
        broken = anomalies.violations(artifact_utils.get_single_uri(input_dict[SCHEMA_ANOMALIES_KEY]))
        span = int(properties[SPAN_KEY])
        cold_start = bool(baseline.get_int_custom_property(finder.COLD_START_PROPERTY))
        if cold_start:  # compared with itself: no distance says anything
            skew = [row for row in rows if row["kind"] == rows_lib.SKEW]
            itself = [row for row in rows if row["kind"] != rows_lib.SKEW]
            rows = [*skew, *({**row, "distance": None, "threshold": None} for row in itself)]
        reason = (properties.get(ACCEPT_DRIFT_KEY) or "").strip()
        known = registry_lib.accepted_reason(registry, span, data)
        far = [row for row in rows if row["verdict"] != rows_lib.OK]
        excused = far if reason else [row for row in far if known and row["kind"] != rows_lib.SKEW]
        if broken or len(excused) < len(far):
            verdict = REFUSED
        else:
            verdict, reason = (OVERRIDDEN, reason or known) if far else (ACCEPTED, reason)
        return {
            "span": span,
            "baseline_span": baseline.get_int_custom_property(finder.BASELINE_SPAN_PROPERTY),
            "cold_start": cold_start,
            "verdict": verdict,
            "accept_drift": reason,
            "features": rows,
            "schema": broken,
            "notes": notes,
        }

    def _bless(self, blessing: types.Artifact, report: dict[str, Any]) -> None:
        """Writes the blessing that everything after the gate needs."""
        files.write_json(os.path.join(blessing.uri, BLESSING_FILE), report)
        blessing.set_int_custom_property(BLESSED_PROPERTY, 1)
        blessing.set_int_custom_property(SPAN_PROPERTY, report["span"])
        blessing.set_int_custom_property(finder.BASELINE_SPAN_PROPERTY, report["baseline_span"])
        blessing.set_string_custom_property(VERDICT_PROPERTY, report["verdict"])
        blessing.set_string_custom_property(ACCEPT_DRIFT_PROPERTY, report["accept_drift"])


def _remember(registry: str, span: int, examples: str) -> dict[str, Any]:
    """Puts who is in a span into the ledger; returns what the span's entry says of where its images lie.

    The ledger comes first: killed between the two, the gate finds the same identities there and adds nobody twice.
    """
    counts = identity_counts.read(examples)
    ledger.append(registry, span, counts)
    return {
        "examples": examples,
        "images": sum(sum(of_split.values()) for of_split in counts.values()),
        "identities": len(set().union(*counts.values())),
        "when": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
    }


def _rows(input_dict: dict[str, list[types.Artifact]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Every row of every validator, the farthest beyond its threshold first; and what they remarked."""
    rows, notes = anomalies.distances(artifact_utils.get_single_uri(input_dict[DRIFT_ANOMALIES_KEY])), []
    for key in REPORT_KEYS:
        if input_dict.get(key):
            more, note = drift_report.read(artifact_utils.get_single_uri(input_dict[key]))
            rows += more
            notes += [note] if note else []
    return rows_lib.ordered(rows), notes


_CONSEQUENCE = "nothing was trained or pushed"


def _refusal(report: dict[str, Any]) -> str:
    """Returns why a span was refused, with its features."""
    reasons = []
    if report["schema"]:
        broken = dict.fromkeys(f"{row['feature'] or 'the data set'} ({row['problem']})" for row in report["schema"])
        reasons.append(f"breaks the schema in {', '.join(broken)}")
    if not report["accept_drift"]:
        far = [row for row in report["features"] if row["verdict"] != rows_lib.OK]
        skewed = [row for row in far if row["kind"] == rows_lib.SKEW]
        drifted = [row for row in far if row["kind"] != rows_lib.SKEW]
        reasons += [f"differs from {_baseline(report)} in {_named(drifted)}"] if drifted else []
        reasons += [f"shows skew to what serving is asked about in {_named(skewed)}"] if skewed else []
    return f"stopped by the drift gate: span {report['span']} {' and '.join(reasons)}"


def _named(rows: list[dict[str, Any]]) -> str:
    """Returns the features of rows, each once, with the distance that is farthest beyond its threshold."""
    worst: dict[str, str] = {}
    for row in rows:
        worst.setdefault(row["feature"], _distance(row))
    return ", ".join(f"{feature} ({distance})" for feature, distance in worst.items())


def _baseline(report: dict[str, Any]) -> str:
    """Returns what a span was compared with."""
    if report["cold_start"]:
        return "no span before"
    if report["baseline_span"] == report["span"]:
        return f"the data accepted as span {report['span']} before"
    return f"accepted span {report['baseline_span']}"


def _distance(row: dict[str, Any]) -> str:
    """Returns a row's distance as a reader reads it."""
    if row["distance"] is None:
        return "could not be compared"
    return f"{row['measure']} {row['distance']:.2g} > {row['threshold']:.2g}"


def _acceptance(report: dict[str, Any]) -> str:
    """Returns one line on an accepted span."""
    if report["cold_start"] and report["verdict"] == ACCEPTED:
        return f"span {report['span']} accepted: the first, with nothing to compare it with"
    line = f"span {report['span']} {report['verdict']}, compared with {_baseline(report)}"
    if not report["features"]:
        return line
    row = report["features"][0]
    shift = "not compared" if row["distance"] is None else f"{row['distance']:.2g}"
    return f"{line}: largest shift {row['feature']} {shift}"

"""What a watch came to, for Prometheus: a file for node_exporter's textfile collector, whole by rename."""

import collections
import datetime
import os

import prometheus_client

from longtail.models import errors
from longtail.models import files
from longtail.pipeline.watch import journal as journal_lib

_SUFFIX = ".prom"  # the collector reads no other files


def check(path: str) -> None:
    """Raises errors.UsageError where no collector would read the file, or it could not be written."""
    if not path.endswith(_SUFFIX):
        raise errors.UsageError(f"--metrics {path}: node_exporter reads files that end in {_SUFFIX}; name it so")
    files.check_place("--metrics", path)


def write(path: str, journal: journal_lib.Journal, root: str) -> None:
    """Makes or replaces the file.

    Args:
      path: of the file; its folder is made if need be.
      journal: the runs.
      root: the root that they are of, the label of every value.

    Raises:
      errors.UsageError: it cannot be written.
    """
    registry = prometheus_client.CollectorRegistry()

    def gauge(name: str, documentation: str, *labels: str) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(f"longtail_watch_{name}", documentation, ("root", *labels), registry=registry)

    spans = gauge("spans", "Spans, by the outcome of the last run of each.", "outcome")
    counted = collections.Counter(one.outcome for one in journal.last().values())
    for outcome in journal_lib.OUTCOMES:
        spans.labels(root, outcome).set(counted[outcome])
    if journal.entries:
        last = journal.entries[-1]
        started = datetime.datetime.fromisoformat(last.started).timestamp()
        gauge("last_run_timestamp_seconds", "When the last run began.").labels(root).set(started)
        gauge("last_run_duration_seconds", "How long the last run took.").labels(root).set(last.seconds)
        gauge("last_run_span", "Number of the last run's span.").labels(root).set(last.span)
        outcomes = gauge("last_run_outcome", "1 of the last run's outcome, 0 of the others.", "outcome")
        for outcome in journal_lib.OUTCOMES:
            outcomes.labels(root, outcome).set(outcome == last.outcome)
    version, served = journal.served_version(), journal.served()
    if version is not None:
        gauge("served_version", "The version that servers take.").labels(root).set(version)
    if served is not None and served.mAP is not None:
        gauge("served_map", "Its mAP on its run's held-out identities, from 0 to 1.").labels(root).set(served.mAP)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        prometheus_client.write_to_textfile(path, registry)
    except OSError as error:
        raise errors.UsageError(
            f"--metrics {path}: cannot be written ({error.strerror}); name another file"
        ) from error

"""What a model scores on each span of its window, beside the last blessed one: good on the whole may be bad on one."""

import dataclasses
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from longtail.components.retrieval_evaluator import judgement
from longtail.components.retrieval_evaluator import scoring
from longtail.models import errors
from longtail.models.metrics import metric
from longtail.models.metrics import protocols


class SpanScore(NamedTuple):
    """Figures of one span.

    Attributes:
      span: its number.
      images: how many were scored by.
      candidate: figures of the new model; None where no query of the span has a match.
      baseline: likewise of the last blessed one; None too where there is none.
      difference: how the two differ, identity by identity.
    """

    span: int
    images: int
    candidate: dict[str, Any] | None
    baseline: dict[str, Any] | None
    difference: judgement.Difference | None

    def told(self) -> dict[str, Any]:
        """For `metrics.json`."""
        found = self._asdict()
        return {**found, "difference": dataclasses.asdict(self.difference) if self.difference else None}


def score(
    embedded: scoring.Embedded,
    other: scoring.Embedded | None,
    usable: np.ndarray,
    rows: scoring.EvalRows,
    protocol: protocols.Protocol,
    head_threshold: int,
) -> list[SpanScore]:
    """Scores each span by itself: queries and gallery are of that span alone. Of one span alone there is
    nothing to tell.

    Args:
      embedded: by the candidate.
      other: by the last blessed model; None where there is none.
      usable: bool [N], images that are scored.
      rows: of all images.
      protocol: by which they are ranked.
      head_threshold: as `scoring.score` takes it.
    """
    spans = np.unique(rows.span).tolist()
    found = []
    for span in spans if len(spans) > 1 else ():
        here = rows.span == span
        try:
            candidate = scoring.score(embedded, usable & here, rows, protocol, head_threshold)
        except errors.WorkError:  # nobody there can be found: there are too few images, or none that can be embedded
            found.append(SpanScore(span, int(here.sum()), None, None, None))
            continue
        last = scoring.score(other, usable & here, rows, protocol, head_threshold) if other else None
        difference = judgement.difference(candidate, last) if last else None
        before = _figures(last.figures) if last else None
        found.append(SpanScore(span, int(here.sum()), _figures(candidate.figures), before, difference))
    return found


def _figures(figures: dict[str, Any]) -> dict[str, Any]:
    """What is told of a span: every metric, without slices."""
    names = (*(each.name for each in metric.METRICS), "mAP_interval", "identities", "queries", "gallery")
    return {name: figures[name] for name in names}


def reasons_against(spans: Sequence[SpanScore], rules: judgement.Rules) -> list[str]:
    """Why the candidate must not be pushed by what it scores on each of several spans.

    The floor and the margin hold for each span as they do for all together. A gallery of one span is smaller, and so
    easier, than that of all.
    """
    return [
        f"span {one.span}: {reason}"
        for one in spans
        if one.candidate is not None and one.candidate["identities"] >= judgement.LEAST_IDENTITIES
        for reason in judgement.too_low(one.candidate, one.baseline, one.difference, rules)
    ]

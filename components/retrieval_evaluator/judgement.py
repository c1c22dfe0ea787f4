"""Whether a model may be pushed, and what its user should be told either way."""

import dataclasses
from typing import Any
from typing import NamedTuple

import numpy as np

from longtail.components.retrieval_evaluator import scoring
from longtail.models.metrics import bootstrap
from longtail.models.metrics import comparisons
from longtail.models.metrics import retrieval

LEAST_IDENTITIES = 2  # that are scored; below, any ranking is right by want of a wrong answer
FEW_IDENTITIES = 20
PARALLEL = 0.9
ANYWAY = "; --accept-scores REASON blesses it all the same"  # what can be done where scores alone are too low


class Rules(NamedTuple):
    """When a model is blessed; see `longtail.components.config.Evaluation`."""

    floor_map: float
    margin: float
    margin_end: str
    max_undecodable: float
    beat_pixels: bool

    def without_scores(self) -> "Rules":
        """Likewise, with neither floor nor margin."""
        return self._replace(floor_map=0.0, margin=float("inf"))


@dataclasses.dataclass(frozen=True)
class Difference:
    """The candidate's mAP minus the last blessed model's, on the same queries.

    Attributes:
      mAP: the difference, a fraction of 1.
      interval: its 95 % interval by a bootstrap over identities.
    """

    mAP: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        """In points of a hundred: "worse by 0.40 (interval -0.10 to 0.90)"."""
        low, high = (100 * end for end in self.interval)
        if self.mAP < 0:
            return f"worse by {-100 * self.mAP:.2f} points of mAP (95 % interval {-high:.2f} to {-low:.2f})"
        return f"better by {100 * self.mAP:.2f} points of mAP (95 % interval {low:.2f} to {high:.2f})"


def difference(candidate: scoring.Scored, baseline: scoring.Scored) -> Difference:
    """Compares two models that were scored on the same images, paired by identity."""
    pairs = retrieval.identity_precision(candidate.queries) - retrieval.identity_precision(baseline.queries)
    asked = candidate.queries.identity[candidate.queries.matches > 0]
    queries = np.bincount(asked, minlength=len(pairs))
    scored = queries > 0
    interval = bootstrap.interval(pairs[None, scored], queries[scored])
    return Difference(candidate.figures["mAP"] - baseline.figures["mAP"], interval)


def reason_against(
    candidate: dict[str, Any],
    baseline: dict[str, Any] | None,
    to_baseline: Difference | None,
    pixels: dict[str, Any] | None,
    rules: Rules,
) -> str:
    """Why the candidate must not be pushed, in one line; empty where nothing speaks against it.

    Args:
      candidate: its figures.
      baseline: those of the last blessed model.
      to_baseline: how the two differ.
      pixels: figures of a trivial embedding.
      rules: of the blessing.
    """
    refused, images = candidate["undecodable"], candidate["images"]
    if refused > rules.max_undecodable * images:
        most = f"max_undecodable={rules.max_undecodable:g}"
        return f"{refused} of {images} images cannot be embedded, more than {most} allows"
    if candidate["identities"] < LEAST_IDENTITIES:
        return (
            f"{candidate['identities']} identity can be scored, and at least {LEAST_IDENTITIES} must be, so that there "
            "are wrong answers: hold out more identities (data.eval_fraction) with more images"
        )
    if reason := _below_floor(candidate, rules):
        return reason + ANYWAY
    if rules.beat_pixels and pixels and candidate["mAP"] <= pixels["mAP"]:
        return (
            f"mAP {candidate['mAP']:.4f} is not above the {pixels['mAP']:.4f} of {pixels['embedding']}, which nobody "
            "trained; evaluation.beat_pixels: false blesses it all the same"
        )
    if reason := _below_last(candidate, baseline, to_baseline, rules):
        return reason + ANYWAY
    if baseline and refused > baseline["undecodable"]:
        return (
            f"{refused} images cannot be embedded, where the last blessed model leaves out {baseline['undecodable']}"
        )
    return ""


def too_low(
    candidate: dict[str, Any], baseline: dict[str, Any] | None, to_baseline: Difference | None, rules: Rules
) -> list[str]:
    """Why a candidate's mAP is not enough, by itself and beside the last blessed model's; as `reason_against`."""
    found = (_below_floor(candidate, rules), _below_last(candidate, baseline, to_baseline, rules))
    return [reason for reason in found if reason]


def _below_floor(candidate: dict[str, Any], rules: Rules) -> str:
    if candidate["mAP"] < rules.floor_map:
        return f"mAP {candidate['mAP']:.4f} is below the floor of {rules.floor_map:.4f}"
    return ""


def _below_last(
    candidate: dict[str, Any], baseline: dict[str, Any] | None, to_baseline: Difference | None, rules: Rules
) -> str:
    if baseline and to_baseline and _counted(to_baseline, rules.margin_end) < -rules.margin:
        end = "" if rules.margin_end == "middle" else f" at the {rules.margin_end} end of the interval"
        return (
            f"mAP {candidate['mAP']:.4f} is more than {rules.margin:.4f} below the last blessed model's "
            f"{baseline['mAP']:.4f} on the same images{end}: {to_baseline}"
        )
    return ""


def _counted(found: Difference, end: str) -> float:
    return {"worst": found.interval[0], "middle": found.mAP, "best": found.interval[1]}[end]


def warnings(candidate: dict[str, Any], vectors: np.ndarray, pixels: dict[str, Any] | None) -> list[str]:
    """What casts doubt on the figures, a line each.

    Args:
      candidate: its figures.
      vectors: float32 [N, d], its embeddings.
      pixels: figures of a trivial embedding.
    """
    told = []
    if candidate["identities"] < FEW_IDENTITIES:
        told.append(
            f"only {candidate['identities']} identities are scored: with other identities the figures may be others"
        )
    parallel = comparisons.mean_similarity(vectors) if len(vectors) > 1 else 0.0
    if parallel > PARALLEL:
        told.append(f"embeddings are nearly parallel: the mean cosine of two images is {parallel:.4f}")
    if pixels and candidate["mAP"] <= pixels["mAP"]:
        told.append(f"no better than {pixels['embedding']}, which nobody trained: mAP {pixels['mAP']:.4f}")
    return told

"""The one list of retrieval's figures: what each is of a ranked query, and how every table shows it."""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class QueryScores:
    """What became of each query, one row a query.

    Attributes:
      identity: int64 [Q], dense code of the query's identity.
      matches: int64 [Q], gallery images that are right answers; 0 where the query has none.
      first: int64 [Q], rank from 1 of the nearest right answer; 0 where there is none.
      average_precision: float64 [Q], NaN where there is none.
      inverse_penalty: float64 [Q], matches / rank of the last right answer (INP); NaN where there
        is none.
      r_precision: float64 [Q], share of right answers among the first R, R = matches; NaN where there is none.
      precision_at_r: float64 [Q], sum of the precisions at the right answers among the first R, divided by R; NaN where
        there is none.

    Example: one query, whose right answers are at the ranks 1 and 3: (1/1 + 2/3) / 2 and 2/3.

    >>> scores = retrieval.score_queries([[1.0, 0.0]], ["a"], [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], ["a", "b", "a"])
    >>> scores.average_precision, scores.inverse_penalty
    (array([0.8333]), array([0.6667]))
    """

    identity: np.ndarray
    matches: np.ndarray
    first: np.ndarray
    average_precision: np.ndarray
    inverse_penalty: np.ndarray
    r_precision: np.ndarray
    precision_at_r: np.ndarray


@dataclasses.dataclass(frozen=True)
class Metric:
    """A figure of retrieval: the mean of what it is of each query, and how it is shown.

    Attributes:
      name: its key in `summary.json`, in `metrics.json` and in what commands print as JSON.
      caption: its name in tables and pages.
      of_queries: from scores of Q queries to float or bool [Q], a share of 1 where the unit is "%".
      unit: "%" where it is a share of 1, which tables multiply by 100; otherwise the unit's name, or "".
      format: how a table writes its number, as in `format(number, ".2f")`.

    Example:
      >>> half = Metric("half", "In the upper half", lambda queries: queries.first <= 2)
      >>> half.title, half.show(0.75), half.show(None)
      ('In the upper half, %', '75.00', '-')
    """

    name: str
    caption: str
    of_queries: Callable[[QueryScores], np.ndarray]
    unit: str = "%"
    format: str = ".2f"

    @property
    def title(self) -> str:
        """The head of a column: caption and unit."""
        return f"{self.caption}, {self.unit}" if self.unit else self.caption

    def show(self, value: float | None, sign: str = "") -> str:
        """The number as tables write it, without its unit; "-" for None.

        Args:
          value: the figure, as `summarise` gives it, or a difference or spread of such.
          sign: "+" writes the sign of positive numbers too.
        """
        if value is None:
            return "-"
        return f"{100 * value if self.unit == '%' else value:{sign}{self.format}}"


def _found_within(queries: QueryScores, k: int) -> np.ndarray:
    return queries.first <= k


MEAN_AVERAGE_PRECISION = Metric("mAP", "mAP", lambda queries: queries.average_precision)

# In the order of all tables. A new figure is an entry here, its function, and a row of docs/recipes.md.
METRICS: tuple[Metric, ...] = (
    MEAN_AVERAGE_PRECISION,
    *(Metric(f"rank{k}", f"Rank-{k}", functools.partial(_found_within, k=k)) for k in (1, 5, 10)),
    Metric("mINP", "mINP", lambda queries: queries.inverse_penalty),
    Metric("r_precision", "R-Prec", lambda queries: queries.r_precision),
    Metric("mean_average_precision_at_r", "MAP@R", lambda queries: queries.precision_at_r),
)


def summarise(scores: QueryScores, mask: np.ndarray | None = None) -> dict[str, Any]:
    """Means over the queries that have a match.

    Args:
      scores: of Q queries.
      mask: bool [Q], the queries to take; all of them by default.

    Returns:
      The name of each of `METRICS` and its figure, None where no query is left; `queries` (scored),
      `identities` (theirs) and `unmatched` (left out for want of a match).

    Raises:
      ValueError: `mask` does not fit.

    Example: of two queries one finds its own at once, the other at the second rank.

    >>> both = retrieval.score_queries([[1.0, 0.0], [1.0, 0.0]], ["a", "b"], np.eye(2), ["a", "b"])
    >>> found = metric.summarise(both)
    >>> found["mAP"], found["rank1"], found["rank5"], found["queries"]
    (0.75, 0.5, 1.0, 2)
    """
    taken = np.ones(len(scores.first), bool) if mask is None else np.asarray(mask, bool)
    if taken.shape != scores.first.shape:
        raise ValueError(f"`mask` must have one entry a query, {len(scores.first)}. Received: shape {taken.shape}")
    scored = taken & (scores.matches > 0)
    some = bool(scored.any())
    return {
        **{each.name: float(each.of_queries(scores)[scored].mean()) if some else None for each in METRICS},
        "queries": int(scored.sum()),
        "identities": len(np.unique(scores.identity[scored])),
        "unmatched": int(taken.sum() - scored.sum()),
    }


def line(figures: Mapping[str, Any]) -> str:
    """All figures in one line of text, as a log has them.

    Example:

    >>> metric.line(dict.fromkeys((each.name for each in METRICS), 0.75))
    'mAP 75.00 %, Rank-1 75.00 %, Rank-5 75.00 %, Rank-10 75.00 %, mINP 75.00 %, R-Prec 75.00 %, MAP@R 75.00 %'
    """
    return ", ".join(f"{each.caption} {each.show(figures[each.name])} {each.unit}".rstrip() for each in METRICS)

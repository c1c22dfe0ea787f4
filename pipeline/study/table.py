"""What a study came to: means over seeds, paired differences, and the table that shows them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table

from longtail.models import head_tail
from longtail.models.metrics import metric
from longtail.pipeline.study import methods as methods_lib

# What is told beside the metrics: the key, the column's title, and how its number is written.
_VARIANCES = (
    ("head_variance", "var head", ".4f"),
    ("tail_variance", "var tail", ".4f"),
    ("held_out_variance", "var held out", ".4f"),
)
_PAIRED = metric.MEAN_AVERAGE_PRECISION


def summarise(runs: Sequence[dict[str, Any]], methods: Sequence[methods_lib.Method]) -> list[dict[str, Any]]:
    """One row a setting and method: means over seeds, and the paired difference to the plain head.

    `paired_mAP` is the mean over the seeds that both have of (method - plain head), `paired_spread` its standard
    error, None where there are fewer than two. A variance is None where there is no identity of its kind.
    """
    by_run = {(run["setting"], run["method"], run["seed"]): run for run in runs}
    rows = []
    for setting in dict.fromkeys(run["setting"] for run in runs):
        for method in methods:
            own = [run for run in runs if run["setting"] == setting and run["method"] == method.name]
            if not own:
                continue
            differences = [
                run[_PAIRED.name] - by_run[setting, method.plain, run["seed"]][_PAIRED.name]
                for run in own
                if method.plain != method.name and (setting, method.plain, run["seed"]) in by_run
            ]
            rows.append({"setting": setting, "method": method.name, **_means(own, differences)})
    return rows


def _means(own: Sequence[dict[str, Any]], differences: Sequence[float]) -> dict[str, Any]:
    def mean(values):
        return float(np.mean(values)) if values and None not in values else None

    def spread(values, divisor=1.0):
        return float(np.std(values, ddof=1)) / divisor if len(values) > 1 else None

    names = [*(each.name for each in metric.METRICS), *(key for key, *_ in _VARIANCES), "seconds"]
    return {
        "seeds": len(own),
        **{name: mean([run[name] for run in own]) for name in names},
        f"{_PAIRED.name}_spread": spread([run[_PAIRED.name] for run in own]),
        f"paired_{_PAIRED.name}": mean(differences),
        "paired_spread": spread(differences, np.sqrt(len(differences))) if differences else None,
    }


def render(rows: Sequence[dict[str, Any]]) -> rich.table.Table:
    """The rows of `summarise` as a table, every metric in the list's order."""
    titles = [each.title for each in metric.METRICS]
    table = rich.table.Table(
        "setting", "method", *titles, f"paired {_PAIRED.title}", *(title for _, title, _ in _VARIANCES)
    )
    for row in rows:
        figures = {each.name: each.show(row[each.name]) for each in metric.METRICS}
        figures[_PAIRED.name] = _with_spread(figures[_PAIRED.name], row[f"{_PAIRED.name}_spread"])
        difference = row[f"paired_{_PAIRED.name}"]
        paired = "" if difference is None else _with_spread(_PAIRED.show(difference, "+"), row["paired_spread"])
        variances = ("-" if row[key] is None else f"{row[key]:{digits}}" for key, _, digits in _VARIANCES)
        table.add_row(row["setting"], row["method"], *figures.values(), paired, *variances)
    return table


def caption(head_threshold: int, protocol: str) -> str:
    """What the table's figures are, in one line."""
    name = _PAIRED.caption
    return (
        f"protocol {protocol}; {name} ± standard deviation over seeds, paired {name} ± its standard error; "
        f"variances in rad²; {head_tail.rule(head_threshold, 'trained identities')}"
    )


def _with_spread(text: str, spread: float | None) -> str:
    return text if spread is None else f"{text} ± {_PAIRED.show(spread)}"

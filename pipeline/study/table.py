"""What a study came to: means over seeds, paired differences with their intervals, and the tables that show them."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table

from longtail.models import head_tail
from longtail.models.metrics import bootstrap
from longtail.models.metrics import metric
from longtail.pipeline.study import methods as methods_lib

# The key and the column's title of each variance.
_VARIANCES = (
    ("head_variance", "var head"),
    ("tail_variance", "var tail"),
    ("head_variance_equal_n", "var head, equal n"),
    ("tail_variance_equal_n", "var tail, equal n"),
    ("test_variance", "var test"),
)
# Of images of trained identities that were not trained on: key and title.
_CLOSED = {
    f"{kind}_{by}": f"{kind}, {shown}, %"
    for kind in ("head", "tail")
    for by, shown in (("classifier", "classifier"), ("nearest", "nearest centre"))
}
_PAIRED = metric.MEAN_AVERAGE_PRECISION

Runs = Sequence[Mapping[str, Any]]


def summarise(
    runs: Runs,
    chosen: Sequence[Mapping[str, Any]],
    methods: Mapping[str, methods_lib.Method],
    against: str | None = None,
) -> list[dict[str, Any]]:
    """One row a setting and method: means over seeds, and the differences to plain heads.

    Args:
      runs: what `trial.report` returned.
      chosen: what `tuning.choose` returned, one a setting and method.
      methods: by name.
      against: name of the method that every other one is compared with as well.

    Returns:
      Rows of `setting`, `method`, `values` (chosen), `trainings` (it took to choose them), `seeds`, every metric and
      variance (None where there is no identity of its kind), `closed` (shares of images of trained identities that
      were not trained on), `seconds`, and
      `mAP_spread`: standard deviation over seeds;
      `paired_mAP`: (method - the same head without additions), mean over the seeds that both have; `paired_interval`:
      its 95 % interval by `bootstrap.interval`; `paired_error`: its standard error over seeds;
      `best`: the plain head of the highest mAP on these very images; `best_mAP`, `best_interval`: likewise to that;
      `against_mAP`, `against_interval`: likewise to `against`;
      `closed_against`: of each share of `closed` its `difference` to that method's and their `interval`, Student's over
      the seeds alone;
      `further`: name -> the same figures on further data.
      None where there is nothing to compare, or of one seed no spread.
    """
    plain_names = {method.plain: name for name, method in methods.items() if not method.added}
    rows = []
    for setting in dict.fromkeys(choice["setting"] for choice in chosen):
        choices = [choice for choice in chosen if choice["setting"] == setting]
        runs_of = {each["method"]: _runs_of(runs, each) for each in choices}
        plain = {name: runs_of[name] for name in plain_names.values() if runs_of.get(name)}
        for choice in choices:
            own, name = runs_of[choice["method"]], choice["method"]
            if not own:
                continue
            method = methods[name]
            partner = plain_names.get(method.plain) if method.added else None
            told = {key: choice[key] for key in ("setting", "method", "values", "trainings")}
            measured = (*(key for key, _ in _VARIANCES), "seconds")
            means: dict[str, Any] = {key: _mean([run[key] for run in own]) for key in measured}
            means["closed"] = {name: _mean([_at(run, name) for run in own]) for name in _CLOSED}
            rival = runs_of.get(against, ()) if against != name else ()
            means["closed_against"] = _closed_differences(own, rival)
            rows.append({**told, "seeds": len(own), **means, **_figures(name, partner, own, plain, rival), "further": {
                other: _figures(
                    name, partner, _on(own, other), {key: _on(plain[key], other) for key in plain}, _on(rival, other)
                )
                for other in own[0]["further"]
            }})  # fmt: skip
    return rows


def _at(run: Mapping[str, Any], name: str) -> float | None:
    kind, _, by = name.partition("_")
    return run["closed"].get(kind, {}).get(by)


def _closed_differences(own: Runs, rival: Runs) -> dict[str, dict[str, Any]]:
    """By key of `_CLOSED`; of what one of them does not have, or no seed of both, nothing."""
    by_seed, found = {run["seed"]: run for run in rival}, {}
    pairs = [(run, by_seed[run["seed"]]) for run in own if run["seed"] in by_seed]
    for key in _CLOSED:
        values = [(_at(mine, key), _at(theirs, key)) for mine, theirs in pairs]
        differences = [one - other for one, other in values if one is not None and other is not None]
        if differences and len(differences) == len(pairs):
            ends = list(bootstrap.interval(np.reshape(differences, [-1, 1]))) if len(pairs) > 1 else None
            found[key] = {"difference": float(np.mean(differences)), "interval": ends}
    return found


def _runs_of(runs: Runs, choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [run for run in runs if (run["setting"], run["method"]) == (choice["setting"], choice["trained"])]


def _on(runs: Runs, other: str) -> list[dict[str, Any]]:
    return [{"seed": run["seed"], **run["further"][other]} for run in runs]


def _figures(name: str, partner: str | None, own: Runs, plain: Mapping[str, Runs], rival: Runs) -> dict[str, Any]:
    """A method's metrics on a set of images; how mAP differs from its partner's, the best plain head's, a rival's."""

    def average(of):
        return _mean([run[_PAIRED.name] for run in plain[of]])

    best = max(plain, key=average, default=None)
    values = [run[_PAIRED.name] for run in own]
    paired = _difference(own, plain.get(partner, ()) if partner else ())
    to_best = _difference(own, plain[best] if best and best != name else ())
    return {
        # A study begun before a metric was added does not have it.
        **{each.name: _mean([run.get(each.name) for run in own]) for each in metric.METRICS},
        f"{_PAIRED.name}_spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        **{f"paired_{key}": value for key, value in paired.items()},
        "best": best,
        **{f"best_{key}": value for key, value in to_best.items()},
        **{f"against_{key}": value for key, value in _difference(own, rival).items()},
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _difference(own: Runs, other: Runs) -> dict[str, Any]:
    """mAP of `own` minus `other`'s in the seeds that both have."""
    by_seed = {run["seed"]: run for run in other}
    pairs = [(run, by_seed[run["seed"]]) for run in own if run["seed"] in by_seed]
    if not pairs:
        return {_PAIRED.name: None, "error": None, "interval": None}
    differences = [mine[_PAIRED.name] - theirs[_PAIRED.name] for mine, theirs in pairs]
    of_identities = [np.subtract(mine["identity_mAP"], theirs["identity_mAP"]) for mine, theirs in pairs]
    error = float(np.std(differences, ddof=1) / np.sqrt(len(pairs))) if len(pairs) > 1 else None
    interval = bootstrap.interval(np.array(of_identities), pairs[0][0]["identity_queries"])
    return {_PAIRED.name: float(np.mean(differences)), "error": error, "interval": list(interval)}


def render(rows: Sequence[Mapping[str, Any]], against: str | None = None) -> list[rich.table.Table]:
    """The rows of `summarise` as tables: metrics on the test side, on each further data, closed set and variances."""
    further = list(rows[0]["further"]) if rows else []
    tables = [_metrics("test identities", rows, rows, against)]
    tables += [_metrics(name, rows, [row["further"][name] for row in rows], against) for name in further]
    titles = [title for _, title in _VARIANCES]
    variances = rich.table.Table("setting", "method", *titles, title="angular variance, rad²")
    for row in rows:
        shown = ("-" if row[key] is None else f"{row[key]:.4f}" for key, _ in _VARIANCES)
        variances.add_row(row["setting"], row["method"], *shown)
    title = "trained identities, new images" + (f"; in brackets 95 % over seeds, over {against}" if against else "")
    closed = rich.table.Table("setting", "method", *_CLOSED.values(), title=title)
    for row in rows:
        closed.add_row(row["setting"], row["method"], *(_closed_cell(row, key) for key in _CLOSED))
    return [*tables, closed, variances]


def _closed_cell(row: Mapping[str, Any], key: str) -> str:
    share, against = row["closed"][key], row["closed_against"].get(key)
    if share is None:
        return "-"
    if against is None:
        return f"{100 * share:.2f}"
    ends = " to ".join(f"{100 * end:+.1f}" for end in against["interval"] or ())
    return f"{100 * share:.2f}, {100 * against['difference']:+.1f}" + (f" ({ends})" if ends else "")


def _metrics(title: str, rows, figures: Sequence[Mapping[str, Any]], against: str | None) -> rich.table.Table:
    tuned = any(row["trainings"] for row in rows)
    titles = [each.title for each in metric.METRICS]
    compared = [f"{_PAIRED.title} over its plain head", f"{_PAIRED.title} over the best plain head"]
    compared += [f"{_PAIRED.title} over {against}"] if against else []
    choice = ["chosen", "trainings to choose"] if tuned else []
    table = rich.table.Table("setting", "method", *choice, *titles, *compared, title=title)
    for row, own in zip(rows, figures, strict=True):
        values = methods_lib.written(row["values"])
        shown = {each.name: each.show(own[each.name]) for each in metric.METRICS}
        spread = own[f"{_PAIRED.name}_spread"]
        shown[_PAIRED.name] += "" if spread is None else f" ± {_PAIRED.show(spread)}"
        differences = [_with_interval(own, kind) for kind in ("paired", "best", *["against"] * bool(against))]
        chosen = [values, str(row["trainings"])] if tuned else []
        table.add_row(row["setting"], row["method"], *chosen, *shown.values(), *differences)
    return table


def _with_interval(figures: Mapping[str, Any], kind: str) -> str:
    difference = figures[f"{kind}_{_PAIRED.name}"]
    if difference is None:
        return ""
    low, high = (_PAIRED.show(end, "+") for end in figures[f"{kind}_interval"])
    return f"{_PAIRED.show(difference, '+')} ({low} to {high})"


def caption(head_threshold: int, protocol: str) -> str:
    """What the tables' figures are, in one line."""
    name = _PAIRED.caption
    return (
        f"protocol {protocol}; {name} ± standard deviation over seeds; differences of {name} with 95 % intervals over "
        "seeds and identities; the best plain head is that of the highest figure in the same table and setting; "
        f"{head_tail.rule(head_threshold, 'trained identities')}"
    )

"""One HTML page of what the drift gate saw: what `templates/drift.html` is filled in with.
"""

from collections.abc import Iterable
from typing import Any

import markupsafe

from longtail.components.data import images
from longtail.pipeline.report import charts
from longtail.pipeline.report import drift_view
from longtail.pipeline.report import pages

_SAME = ("kind", "feature", "split")


def render(view: drift_view.View) -> str:
    """The page."""
    report = view.report
    return pages.render(
        "drift.html",
        title=f"Drift of span {view.place.span}, {view.place.recipe}",
        report=report,
        headline=headline(report),
        notes=(*report.get("notes", ()), *view.missing),
        rows=[_row(view, row) for row in report["features"]],
        shown=_shown(view),
    )


def headline(report: dict[str, Any]) -> str:
    """One sentence of what became of a span, and why."""
    far = [row for row in report["features"] if row["verdict"] != "ok"]
    skewed = _names(row for row in far if _is_skew(row))
    drifted = _names(row for row in far if not _is_skew(row))
    broken = _names({"feature": row["feature"] or "the data set"} for row in report["schema"])
    whys = [
        *([f"it breaks the schema in {broken}"] if broken else []),
        *([f"it differs from {compared(report)} in {drifted}"] if drifted else []),
        *([f"what serving is asked about differs from it in {skewed}"] if skewed else []),
    ]
    why = " and ".join(whys) or f"nothing differs from {compared(report)}"
    if report["verdict"] == "overridden":
        return f"Span {report['span']} was accepted although {why}. The reason given: {report['accept_drift']}"
    if report["cold_start"] and not whys:
        why = "the first, with nothing to compare it with"
    return f"Span {report['span']} was {report['verdict']}: {why}."


def _names(rows: Iterable[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(row["feature"] for row in rows))


def _is_skew(row: dict[str, Any]) -> bool:
    return row.get("kind") == "skew"


def compared(report: dict[str, Any]) -> str:
    """What a span was compared with."""
    if report["cold_start"]:
        return "nothing"
    if report["baseline_span"] == report["span"]:
        return f"what was accepted as span {report['span']} before"
    return f"span {report['baseline_span']}"


def _row(view: drift_view.View, row: dict[str, Any]) -> dict[str, Any]:
    """A row of the report as a reader reads it, with its charts."""
    figures = {key: "-" if row[key] is None else charts.number(row[key]) for key in ("distance", "threshold")}
    found = drift_view.histogram(view, row) or {}
    return {
        **row,
        **figures,
        "kind": row.get("kind", "drift"),
        "against": "training" if _is_skew(row) else compared(view.report),
        # What could not be compared is as bad as drift.
        "colour": "ok" if row["verdict"] == "ok" else "drifted",
        "charts": [*_shares(view, row, found), *_history(view, row)],
        "words": found.get("words"),
    }


def _shares(view, row, found: dict[str, Any]) -> list[tuple[str, markupsafe.Markup]]:
    """What it was compared with, then what is new: captions and charts."""
    names = ("training", "requests to serving") if _is_skew(row) else (compared(view.report), f"span {view.place.span}")
    sides = zip(("baseline", "current"), names, strict=True)
    return [(name, _bars(row["feature"], found, side, name)) for side, name in sides if any(found.get(side, ()))]


def _history(view, row) -> list[tuple[str, markupsafe.Markup]]:
    """The row's distance in every span that was judged."""
    points = [
        (one["span"], past["distance"], past["threshold"], past["verdict"] != "ok")
        for one in view.history
        for past in one["features"]
        if [past.get(key) for key in _SAME] == [row.get(key) for key in _SAME] and past["distance"] is not None
    ]
    title = f"{row['feature']}: distances over spans"
    return [("distance over spans", charts.line(points, title))] if points else []


def _bars(feature: str, found: dict[str, Any], side: str, name: str) -> markupsafe.Markup:
    shares = found[side]
    if "words" in found:
        names, ticks = found["words"], ["", ""]
    else:
        ends = [charts.number(end) for end in found["ends"]]
        names = [f"{low} to {high}" for low, high in zip(ends[:-1], ends[1:], strict=True)]
        ticks = [ends[0], ends[len(ends) // 2], ends[-1]] if len(ends) > 2 else [charts.number(sum(found["ends"]) / 2)]
    top = max(*found["current"], *found["baseline"])
    fullest = names[shares.index(max(shares))]
    title = f"{feature}, {name}: most images, {100 * max(shares):.0f}%, at {fullest}"
    return charts.bars(shares, names, ticks, top, side, title)


def _shown(view: drift_view.View) -> dict[str, Any] | None:
    """Images of both sides at the extremes of the feature that shifted most."""
    row = drift_view.largest(view)
    if row is None or view.current is None:
        return None
    sides = [
        (name, [_image(picture, row["feature"]) for picture in pictures])
        for name, pictures in drift_view.sides(view, row)
    ]
    return {"feature": row["feature"], "distance": row["distance"], "sides": sides}


def _image(picture: drift_view.Picture, feature: str) -> dict[str, str]:
    value = picture.values[feature]
    value = charts.number(value) if isinstance(value, float | int) else value
    said = ", ".join(filter(None, (picture.path, f"{feature} {value}")))
    return {"png": images.thumbnail(picture.encoded), "said": said, "value": value}

"""`longtail drift`: what the drift gate saw of a span, as a table and as a page to look at."""

import json
import os
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors


def drift(
    root: Annotated[str, typer.Argument(help="The --root of runs.", metavar="DIR", show_default=False)],
    span: Annotated[int | None, typer.Option(help="Which span.", show_default="the one judged last")] = None,
    recipe: Annotated[str, typer.Option(help="Name of the recipe, where the root holds runs of several.")] = "",
    html: Annotated[
        str, typer.Option(help="Where to write the page.", metavar="FILE", show_default="DIR/drift/RECIPE-span-N.html")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show what the drift gate saw of a span: every distance, its threshold, and one HTML page with pictures.

    Exit status 0 where the span was accepted, 1 where it was refused.
    """
    from longtail.models import files
    from longtail.pipeline.report import drift_page
    from longtail.pipeline.report import drift_view

    place = drift_view.find(root, recipe, span)
    view = drift_view.load(place)
    page = html or os.path.join(root, "drift", f"{place.recipe}-span-{place.span}.html")
    files.write(page, drift_page.render(view))
    if as_json:
        print(json.dumps({"recipe": place.recipe, **view.report, "report": place.path, "html": page}))
    else:
        _print(view.report, drift_page.headline(view.report), drift_page.compared(view.report), view.missing, page)
    if view.report["verdict"] not in drift_view.ACCEPTED:
        raise typer.Exit(1)


def _print(report: dict[str, Any], headline: str, compared: str, missing: list[str], page: str) -> None:
    import rich.table

    from longtail.pipeline import console as console_lib

    console, rows = console_lib.out(), report["features"]
    table = rich.table.Table(
        rich.table.Column("feature", no_wrap=True, min_width=max((len(row["feature"]) for row in rows), default=0)),
        rich.table.Column("verdict", min_width=len("not compared")),
        rich.table.Column("distance", justify="right", min_width=len("distance")),
        rich.table.Column("threshold", justify="right", min_width=len("threshold")),
        "kind",
        "compared with",
        "measure",
    )
    for row in rows:
        figures = ("-" if row[key] is None else f"{row[key]:.3g}" for key in ("distance", "threshold"))
        against = "training" if row.get("kind") == "skew" else compared
        measure = row["measure"] or "-"
        table.add_row(row["feature"], row["verdict"], *figures, row.get("kind", "drift"), against, measure)
    if rows:
        console.print(table)
    for broken in report["schema"]:
        what = broken["feature"] or "the data set"
        line = f"schema: {what}, split {broken['split']}: {broken['detail'] or broken['problem']}"
        console.print(errors.shown(line), soft_wrap=True, markup=False)
    for line in (*report.get("notes", ()), *missing, headline, f"page {page}"):
        console.print(errors.shown(line), soft_wrap=True, markup=False)

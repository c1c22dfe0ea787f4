"""`longtail recipe`: the recipe in effect, value by value."""

import json
from typing import Annotated

import typer

from longtail.pipeline.cli import run


def recipe(
    name: Annotated[str, typer.Argument(help="Name of a recipe, or the path of a .yaml file.", metavar="RECIPE")],
    set_: run.SetOption = None,
    as_json: run.JsonOption = False,
) -> None:
    """Show a recipe as a run would take it: every key, its value, where that is from, and what it may be."""
    import rich.table
    import rich.text

    from longtail.models import check
    from longtail.models import settings
    from longtail.pipeline import console
    from longtail.pipeline import recipe as recipe_lib

    loaded, origins = recipe_lib.load(name, set_ or ()), recipe_lib.origins(name, set_ or ())
    rows = [
        {
            "key": one.key,
            "value": one.value,
            "from": origins[one.key],
            "allowed": str(one.allowed or "a mapping of schema bounds by feature"),
            "meaning": one.doc,
        }
        for one in settings.walk(loaded, check.RULES)
    ]
    if as_json:
        print(json.dumps({"recipe": loaded.name, "settings": rows}))
        return
    table = rich.table.Table("key", "value", "from", "may be")
    for row in rows:
        cells = (row["key"], json.dumps(row["value"]), row["from"], row["allowed"])
        table.add_row(*(rich.text.Text(cell) for cell in cells))
    console.out().print(table)

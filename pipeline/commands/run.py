"""`longtail run`, the whole pipeline on this machine, and `longtail try`, the pushed model put to use."""

import datetime
import json
import os
from typing import Annotated

import typer

RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or the path of a .yaml file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value, e.g. head.scale=16. Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def run(
    recipe: RecipeOption,
    root: Annotated[str, typer.Option(help="Folder of everything the run writes; an interrupted run goes on there.")],
    data: Annotated[
        str | None, typer.Option(help="Folder or .zip of images, one folder an identity; {SPAN} is replaced.")
    ] = None,
    span: Annotated[int, typer.Option(help="Number of this span of data, from 1.")] = 1,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline: ingest, check, gate, rebalance, train, score, bless, push, build the gallery."""
    from pipeline import console
    from pipeline import recipe as recipe_lib
    from pipeline import workplace

    loaded = recipe_lib.load(recipe, set_ or ())
    log_file = os.path.join(root, "logs", f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log")
    with workplace.hold(root), console.quiet(log_file) as screen:
        screen.print(f"recipe {loaded.name}, span {span} -> {root}; loading TFX", highlight=False)
        from pipeline import run as run_lib

        summary = run_lib.run(loaded, root, data, span, console=screen)
    if as_json:
        print(json.dumps(summary))
    else:
        run_lib.print_table(summary, root)


def try_out(
    root: Annotated[str, typer.Option(help="Root of a finished run that pushed a model.")],
    images: Annotated[int, typer.Option(help="How many held-out query images to identify.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Serve the pushed model, embed and identify held-out images through the server, and say how it went."""
    from pipeline import try_out as try_lib

    result = try_lib.try_out(root, images)
    if as_json:
        print(json.dumps(result))
    else:
        try_lib.print_result(result)

"""`longtail study`: the papers' comparison of methods on one long-tailed carve."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

from longtail.models import errors
from longtail.pipeline.cli import run
from longtail.pipeline.cli import signals


def study(
    recipe: run.RecipeOption,
    data: Annotated[str, typer.Option(help="Folder or .zip of images, one folder an identity.")],
    settings: Annotated[str, typer.Option(help="Carves H<head identities>S<tail images>, comma-separated.")] = "H100S4",
    methods: Annotated[
        str,
        typer.Option(
            help="Comma-separated: softmax, l2_softmax, normface, sphereface, cosface, arcface, subcentre_arcface, "
            "curricularface, adaface, magface, ldam, triplet; with + leap_v or leap_f (the vanilla or full cloud), "
            "class_balanced, balanced_softmax, centre; leap-cv, leap-cf, leap-av, leap-af are CosFace and ArcFace with "
            "a cloud. Another scale or margin as in leap-cv:s=32 or cosface:m=0.3."
        ),
    ] = "cosface,leap-cv,leap-cf",
    seeds: Annotated[int, typer.Option(help="Trainings of each method, with seeds 0, 1, ...")] = 3,
    json_path: Annotated[
        str | None, typer.Option("--json", help="File for all figures; a study that was cut goes on from it.")
    ] = None,
    set_: run.SetOption = None,
) -> None:
    """Train each method on the same long-tailed carve and compare them on identities none has seen."""
    from longtail.pipeline import console
    from longtail.pipeline import recipe as recipe_lib

    loaded = recipe_lib.load(recipe, set_ or ())
    with signals.stops(), _kept(json_path), console.lines() as screen, console.Steps(screen):
        from longtail.pipeline.study import experiment as study_lib

        results = study_lib.study(loaded, data, settings.split(","), _split(methods), seeds, json_path)
    _print(results["summary"])
    console.out().print("mAP ± standard deviation over seeds; paired mAP ± its standard error; variances in rad²")


@contextlib.contextmanager
def _kept(json_path: str | None) -> Iterator[None]:
    """Says of a study that is stopped what of it is kept: whole trainings, in a file alone."""
    from longtail.pipeline.local import root_folder

    try:
        yield
    except errors.Stopped as stop:
        finished = len((json_path and root_folder.read_json(json_path) or {"runs": ()})["runs"])
        stop.where = f"after {finished} finished trainings" if json_path else "halfway"
        if not json_path:
            stop.advice = "nothing is kept without --json FILE"
        raise


def _split(methods: str) -> list[str]:
    """Splits at commas, but not within a method's own settings: "a:s=32,m=0.3,b" is two methods."""
    found: list[str] = []
    for part in methods.split(","):
        if "=" in part and ":" not in part and found:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _print(rows) -> None:
    import rich.table

    from longtail.pipeline import console

    columns = ("setting", "method", "mAP", "Rank-1", "mINP", "paired mAP", "var head", "var tail", "var held out")
    table = rich.table.Table(*columns)
    for row in rows:
        paired = ""
        if row["paired_mAP"] is not None:
            paired = f"{100 * row['paired_mAP']:+.2f}"
            if row["paired_spread"] is not None:
                paired += f" ± {100 * row['paired_spread']:.2f}"
        spread = "" if row["mAP_spread"] is None else f" ± {100 * row['mAP_spread']:.2f}"
        table.add_row(
            row["setting"],
            row["method"],
            f"{100 * row['mAP']:.2f}{spread}",
            f"{100 * row['rank1']:.2f}",
            f"{100 * row['mINP']:.2f}",
            paired,
            *(f"{row[key]:.4f}" for key in ("head_variance", "tail_variance", "held_out_variance")),
        )
    console.out().print(table)

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
    data: Annotated[
        str,
        typer.Option(help="Folder or archive of images, one folder an identity; or glyphs:..., as data.source has it."),
    ],
    settings: Annotated[
        str,
        typer.Option(
            help="Carves, comma-separated: H<head identities>S<tail images>, with T<number> so many tail identities, "
            "as in H100T300S4; T0 leaves the head alone."
        ),
    ] = "H100S4",
    methods: Annotated[
        str,
        typer.Option(
            help="Comma-separated: heads, by the names that head.name takes; with + leap_v or leap_f (the vanilla or "
            "full cloud), noise_all, noise_tail, noise_head, directional (other clouds), closed (a cloud's form), "
            "corrected (its statistics), class_balanced, balanced_softmax, centre, semi_siamese (prototypes "
            "from a gallery network), m_l2, reconstruction, ftl (feature transfer), untransferred, random, crt (its "
            "controls); leap-cv, leap-cf, leap-av, leap-af: CosFace and ArcFace with a cloud. Options after a colon, "
            "as in leap-cv:s=32,gamma=0.9: s (scale), m (margin), start, gamma, order, P, width, strength, power, rank "
            "(of a cloud), centre, metric (their losses' weights), steps, rate (of feature transfer's stages), "
            "momentum (of semi_siamese), K (images of an identity side by side), epochs."
        ),
    ] = "cosface,leap-cv,leap-cf",
    seeds: Annotated[int, typer.Option(help="Trainings of each method, with seeds 0, 1, ...")] = 3,
    json_path: Annotated[
        str | None, typer.Option("--json", help="File for all figures; a study that was cut goes on from it.")
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUES, such as s=6,8,12: every method that has the option, and does not state it, is trained at "
            "every combination, and what scores best on the validation identities is used. METHOD:KEY=VALUES is of one "
            "method alone. Repeatable."
        ),
    ] = None,
    tune_seeds: Annotated[int, typer.Option(help="Trainings of each combination, with seeds 0, 1, ...")] = 1,
    score: Annotated[
        list[str] | None,
        typer.Option(help="NAME=PATH: score every final model on these images too. Repeatable."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="One of the methods, which all others are compared with as well.")
    ] = None,
    set_: run.SetOption = None,
) -> None:
    """Train each method on the same long-tailed carve and compare them on identities none has seen."""
    from longtail.pipeline import console
    from longtail.pipeline import recipe as recipe_lib

    with signals.stops(), _kept(json_path), console.lines() as screen, console.Steps(screen):
        loaded = recipe_lib.load(recipe, set_ or ())
        from longtail.pipeline.study import experiment
        from longtail.pipeline.study import table

        split = settings.split(","), _split(methods)
        tuned = tune or (), tune_seeds
        results = experiment.study(loaded, data, *split, seeds, json_path, *tuned, score or (), against)
    for one in table.render(results["summary"], against):
        console.out().print(one)
    console.out().print(table.caption(results["head_threshold"], results["protocol"]))


@contextlib.contextmanager
def _kept(json_path: str | None) -> Iterator[None]:
    """Says of a study that is stopped what of it is kept: whole trainings, in a file alone."""
    from longtail.pipeline.local import root_folder

    try:
        yield
    except errors.Stopped as stop:
        kept = json_path and root_folder.read_json(json_path) or {}
        finished = sum(len(kept.get(part, ())) for part in ("tuning", "runs"))
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

"""`longtail transfer`: the analyses of feature transfer on a finished run, each a table, JSON and a picture."""

import json
import os
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from longtail.models import errors
from longtail.pipeline.cli import run
from longtail.pipeline.cli import signals

if TYPE_CHECKING:
    from longtail.pipeline.transfer import analyses

app = typer.Typer(no_args_is_help=True, help="Look at what feature transfer does, beside its paper's figures.")

RootOption = Annotated[str, typer.Option(help="Root of a finished run of a recipe with model.filter.")]
PngOption = Annotated[
    str, typer.Option(help="Where to write the picture.", metavar="FILE", show_default="ROOT/transfer/NAME.png")
]
SeedOption = Annotated[int, typer.Option(help="Another one draws or chooses others.", min=0)]


@app.command()
def norms(root: RootOption, png: PngOption = "", as_json: run.JsonOption = False) -> None:
    """Mean length of the class weights of head and tail identities."""
    _print(_analyses().norms(root), "norms", root, png, as_json)


@app.command()
def closed(root: RootOption, png: PngOption = "", as_json: run.JsonOption = False) -> None:
    """How often images that were not trained on, of identities that were, are told right."""
    _print(_analyses().closed(root), "closed", root, png, as_json)


@app.command()
def centres(root: RootOption, png: PngOption = "", as_json: run.JsonOption = False) -> None:
    """How far class centres of 1, 3, 5 and 10 images lie from those of all."""
    _print(_analyses().centres(root), "centres", root, png, as_json)


@app.command()
def oneshot(root: RootOption, png: PngOption = "", as_json: run.JsonOption = False) -> None:
    """Rank-1 of head identities, and coverage of tail identities at a precision of .99."""
    _print(_analyses().oneshot(root), "oneshot", root, png, as_json)


@app.command()
def show(root: RootOption, png: PngOption = "", seed: SeedOption = 0, as_json: run.JsonOption = False) -> None:
    """A sheet of pictures: centres, transfers, interpolations, components."""
    from longtail.pipeline.transfer import show as show_lib

    _print(show_lib.show(root, seed), "show", root, png, as_json)


@app.command()
def toy(
    png: Annotated[str, typer.Option(help="Where to write the picture.", metavar="FILE")] = "toy.png",
    images: Annotated[int, typer.Option(help="Images of each digit to train on.", min=16)] = 200,
    epochs: Annotated[int, typer.Option(help="Passes over them.", min=1)] = 10,
    seed: SeedOption = 0,
    as_json: run.JsonOption = False,
) -> None:
    """Train built-in digits to two dimensions, with and without m-L2, and draw them."""
    from longtail.pipeline import console
    from longtail.pipeline.transfer import toy as toy_lib

    with signals.stops(), console.lines():
        found = toy_lib.run(images, epochs, seed)
    _print(found, "toy", "", png, as_json)


def _analyses():
    from longtail.pipeline.transfer import analyses  # TensorFlow takes seconds to import

    return analyses


def _print(found: "analyses.Analysis", name: str, root: str, png: str, as_json: bool) -> None:
    import rich.table

    from longtail.models import files
    from longtail.pipeline import console

    path = png or os.path.join(root, "transfer", f"{name}.png")
    files.write(path, found.png)
    if as_json:
        print(json.dumps({**found.figures, "png": path}))
        return
    titles, *rows = found.rows
    table = rich.table.Table(*titles)
    for row in rows:
        table.add_row(*row)
    console.out().print(table)
    console.out().print(f"picture {errors.shown(path)}", soft_wrap=True, markup=False)

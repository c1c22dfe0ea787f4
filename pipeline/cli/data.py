"""`longtail data`: makes image data to work with."""

import json
from typing import Annotated

import typer

app = typer.Typer(name="data", no_args_is_help=True, help="Make image data to work with.")


@app.callback()
def _group() -> None:
    """Make image data to work with."""  # a callback keeps `glyphs` a command of a group of one


@app.command()
def glyphs(
    out: Annotated[str, typer.Option(help="Folder to write; missing or empty.")],
    identities: Annotated[int, typer.Option(help="Characters, each an identity.")] = 300,
    head: Annotated[int, typer.Option(help="How many identities have many images.")] = 60,
    head_images: Annotated[int, typer.Option(help="Images of each of those.")] = 20,
    tail_images: Annotated[int, typer.Option(help="Images of each of the others.")] = 4,
    size: Annotated[int, typer.Option(help="Side of an image, pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Another seed, other identities and images.")] = 0,
    cameras: Annotated[int, typer.Option(help="Cameras that take turns, each with its own bend, blur and light.")] = 1,
    span: Annotated[int, typer.Option(help="Another span, other images of the same.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Write the built-in long-tailed glyph identities as an image folder."""
    # Here, so that `longtail --help` loads no fonts.
    from longtail.components.data import glyph_source
    from longtail.components.data import glyphs as drawing

    glyph_set = drawing.GlyphSet(identities, head, head_images, tail_images, size, seed, cameras)
    counts = glyph_source.write_folder(glyph_set, span, out)
    if as_json:
        print(json.dumps({"out": out, "span": span, **counts}))
    else:
        print(
            f"{out}: {counts['images']} images of {counts['identities']} identities"
            f" (head {counts['head_images']}, tail {counts['tail_images']})"
        )

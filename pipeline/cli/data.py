"""`longtail data`: looks into image data before any run, and makes some to work with."""

import json
import logging
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from longtail.models import config as models_config
from longtail.models import errors

if TYPE_CHECKING:
    from longtail.components.data import inspection

_SHOWN = 5  # of each list, on a terminal
_REPORT_EVERY = 5000

log = logging.getLogger("longtail")

app = typer.Typer(name="data", no_args_is_help=True, help="Look into image data, or make some to work with.")


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="Folder, archive or other source, as --data of a run.", metavar="PATH")],
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    camera_pattern: Annotated[
        str, typer.Option(help="Regular expression; its group is the camera in a file's name.")
    ] = "",
    max_pixels: Annotated[int, typer.Option(help="Larger ones would be set aside.", min=1)] = models_config.MAX_PIXELS,
    page: Annotated[
        str, typer.Option(help="Where to write the page; none if empty.", metavar="FILE.html")
    ] = "data-check.html",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """Say what is in a source of images, as a run would see it: who, how many, what is set aside, what is there twice.

    Every image is read and decoded; nothing is written but the page.
    """
    # Here, since TensorFlow takes seconds to import.
    from longtail.components import config
    from longtail.components.data import inspection
    from longtail.components.data import sources
    from longtail.models import files
    from longtail.pipeline import console
    from longtail.pipeline.report import data_page

    source = sources.open_source(path, layout, camera_pattern)
    with console.lines():
        found = inspection.inspect(source, max_pixels, _say_progress)
    warnings = found.warnings(config.Data.eval_fraction, config.Data.seed, config.Data.max_quarantine_fraction)
    if page:
        files.write(page, data_page.render(found, warnings, source, path))
    counts = {**data_page.counts(found), "page": page or None}
    if as_json:
        print(json.dumps({"path": path, **counts, "warnings": warnings, **_lists(found)}))
    else:
        _print(path, found, warnings, counts)


def _say_progress(done: int, total: int) -> None:
    if done % _REPORT_EVERY == 0:
        log.info("%d of %d images read", done, total)


def _lists(found: "inspection.Inspection") -> dict[str, Any]:
    """All that has names, for machines."""

    def rows(pairs):
        return [{"path": path, "reason": reason} for path, reason in pairs]

    def groups(repeated):
        return [[{"path": one.item.path, "identity": one.item.identity} for one in group] for group in repeated]

    return {
        "census": found.census(),
        "quarantine": rows(found.quarantined),
        "left_out": rows(found.dropped),
        "ignore": rows(found.ignored),
        "copied": groups(found.copies()),
        "contradicting": groups(found.contradictions()),
    }


def _print(path: str, found: "inspection.Inspection", warnings: list[str], counts: dict[str, Any]) -> None:
    shown, census = errors.shown, list(found.census().items())
    print(f"{shown(path)}: {counts['images']} images of {counts['identities']} identities")
    for name, some in (("most images", census[:_SHOWN]), ("fewest", census[_SHOWN:][-_SHOWN:])):
        if some:
            print(f"  {name}: {shown(', '.join(f'{identity} {images}' for identity, images in some))}")
    repeated = [[one.item.path for one in group] for group in found.copies()]
    for name, lines in (
        ("would be set aside", [f"{file}: {reason}" for file, reason in found.quarantined]),
        ("left out by the layout", [f"{file}: {reason}" for file, reason in found.dropped]),
        ("ignored", [f"{file}: {reason}" for file, reason in found.ignored]),
        ("images that are there more than once", [" = ".join(paths) for paths in repeated]),
        ("warnings", warnings),
    ):
        print(f"{name}: {len(lines)}")
        for line in lines[:_SHOWN]:
            print(f"  {shown(line)}")
        if len(lines) > _SHOWN:
            print(f"  and {len(lines) - _SHOWN} more; --json names all")
    if counts["page"]:
        print(f"page {shown(counts['page'])}")


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

"""`longtail neighbours`: what a model finds for each query, and whom it takes for whom, as pictures on one page."""

import dataclasses
import json
import os
from typing import Annotated

import typer

from longtail.models import errors
from longtail.models import files


def neighbours(
    model: Annotated[
        str, typer.Option(help="SavedModel: a version folder, or a folder of versions (the last).")
    ],
    query: Annotated[str, typer.Option(help="Folder or .zip of what is sought, one folder an identity.")],
    gallery: Annotated[
        str, typer.Option(help="And of what it is sought in; a file that is byte for byte the query is left out.")
    ],
    output: Annotated[str, typer.Option(help="Where to write the page.", metavar="FILE.html")] = "neighbours.html",
    top: Annotated[int, typer.Option(help="How many neighbours of each query are shown.", min=1, max=50)] = 8,
    queries: Annotated[int, typer.Option(help="How many queries are shown, the most wrong.", min=1, max=1000)] = 50,
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of the figures.")] = False,
) -> None:
    """Show the nearest images of each query on one page, the most wrong queries first, and who is taken for whom."""
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise errors.UsageError(f"--output {output}: there is no folder {folder}; make it, or name another file")
    files.check_place("--output", output)
    # Here, since TensorFlow takes seconds to import.
    from longtail.models.metrics import neighbours as neighbours_lib
    from longtail.pipeline import console
    from longtail.pipeline.cli import evaluate_images
    from longtail.pipeline.report import neighbours_page

    with console.lines():
        embedder = evaluate_images.embedder(model)
        listed = [evaluate_images.listed(uri, layout) for uri in (query, gallery)]
        asked, known = map(evaluate_images.embed_usable, (embedder, embedder), listed, (query, gallery))
        found = neighbours_lib.search(
            asked.vectors, asked.identities, known.vectors, known.identities, asked.digests, known.digests, top
        )
        worst = neighbours_lib.most_wrong(found)[:queries]
        confused = neighbours_lib.confusions(found, asked.vectors, asked.identities, known.vectors, known.identities)
        files.write(output, neighbours_page.render(model, asked.images, known.images, found, worst, confused))
    told = neighbours_page.figures(found)
    if as_json:
        print(json.dumps({**told, "confusions": [dataclasses.asdict(one) for one in confused], "page": output}))
    else:
        print(errors.shown(neighbours_page.headline(told)))
        print(errors.shown(f"page {output}"))

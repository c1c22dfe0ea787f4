"""One HTML page of what a model finds for queries: what `templates/neighbours.html` is filled in with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.components.data import images
from longtail.components.data import sources
from longtail.models import pictures
from longtail.models.metrics import neighbours
from longtail.pipeline.report import pages

Image = tuple[sources.Source, sources.Item]  # where it is, and which


def render(
    model: str,
    asked: Sequence[Image],
    known: Sequence[Image],
    found: neighbours.Found,
    worst: np.ndarray,
    confused: list[neighbours.Confusion],
) -> str:
    """The page.

    Args:
      model: which, for the title.
      asked: the queries.
      known: the gallery.
      found: what the queries find.
      worst: rows of the queries to show, in that order.
      confused: pairs of identities to show.
    """
    first = [{image[1].identity: image for image in reversed(side)} for side in (asked, known)]
    return pages.render(
        "neighbours.html",
        title=f"Neighbours by {model}",
        said=headline(figures(found)),
        total=len(asked),
        queries=[_query(asked, known, found, row) for row in worst.tolist()],
        confused=[(one, _picture(first[0][one.identity]), _picture(first[1][one.other])) for one in confused],
    )


def _query(asked: Sequence[Image], known: Sequence[Image], found: neighbours.Found, row: int) -> dict[str, Any]:
    near = [
        {
            **_picture(known[other]),
            "similarity": similarity,
            "right": known[other][1].identity == asked[row][1].identity,
        }
        for other, similarity in zip(found.rows[row].tolist(), found.similarity[row].tolist(), strict=True)
        if similarity == similarity  # NaN: the query had fewer to find
    ]
    ahead = float(found.wrong[row] - found.right[row])
    return {**_picture(asked[row]), "found": near, "ahead": ahead, "stranger": bool(np.isnan(found.right[row]))}


def _picture(image: Image) -> dict[str, str]:
    source, item = image
    try:
        png = images.thumbnail(pictures.read(source.read(item)).encoded)
    except (sources.ReadError, pictures.BadImage):
        png = ""  # it has gone since it was embedded
    return {"png": png, "path": item.path, "identity": item.identity}


def figures(found: neighbours.Found) -> dict[str, int]:
    """How many queries there are, how many have nobody to be found, and of how many the nearest is wrong."""
    known = ~np.isnan(found.right)
    wrong = known & (np.nan_to_num(found.wrong, nan=-1.0) >= found.right)
    return {"queries": len(known), "wrong": int(wrong.sum()), "strangers": int((~known).sum())}


def headline(told: dict[str, int]) -> str:
    """One sentence of it."""
    strange = f"; {told['strangers']} have nobody of theirs in the gallery" if told["strangers"] else ""
    return f"Of {told['wrong']} of {told['queries']} queries the nearest image is of somebody else{strange}."

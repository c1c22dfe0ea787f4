"""One HTML page of what a model finds for queries: what `templates/neighbours.html` is filled in with."""

import hashlib
import logging
import os
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.components import embedding
from longtail.components.data import images
from longtail.components.data import sources
from longtail.models import errors
from longtail.models import pictures
from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.models.metrics import neighbours
from longtail.pipeline.report import pages

log = logging.getLogger("longtail")


class Side(NamedTuple):
    """Images of one side that the model has embedded; those that it could not are left out.

    Attributes:
      source: where they are.
      items: of the N images.
      vectors: float32 [N, d].
      identities: str [N].
      digests: str [N], of the files.
    """

    source: sources.Source
    items: list[sources.Item]
    vectors: np.ndarray
    identities: np.ndarray
    digests: np.ndarray


def load(model: str) -> embedding.Embedder:
    """The model in a version folder, or the last in a folder of versions.

    Raises:
      errors.UsageError: there is none.
      errors.WorkError: it is none that embeds.
    """
    file = tf.saved_model.SAVED_MODEL_FILENAME_PB
    folder = model if tf.io.gfile.exists(os.path.join(model, file)) else next(iter(_versions(model).values()), "")
    if not folder:
        raise errors.UsageError(f"--model {model}: no SavedModel: neither {file} nor a version folder with one")
    return embedding.Embedder(folder)


def _versions(model: str) -> dict[int, str]:
    return versions.find_complete(model) if tf.io.gfile.isdir(model) else {}


def embed(embedder: embedding.Embedder, uri: str, layout: str) -> Side:
    """Embeds a folder or an archive, an image after the other; says which are left out.

    Raises:
      errors.UsageError: there is no image.
      errors.WorkError: the model fails, or can embed none.
    """
    source = sources.open_source(uri, layout)
    items, digests = list(source.listing(min_identities=1).items), list[str]()
    log.info("embedding %d images of %s", len(items), uri)
    vectors, status = embedding.embed_images(embedder, (_encoded(source, item, digests) for item in items))
    usable = np.flatnonzero(status == signatures.STATUS_OK)
    if not len(usable):
        raise errors.WorkError(f"{embedder.uri}: cannot embed any of {len(items)} images of {uri}")
    for row in np.flatnonzero(status != signatures.STATUS_OK).tolist():
        if digests[row]:
            log.warning("left out: %s: %s", items[row].path, signatures.STATUS_MEANING.get(status[row], status[row]))
    kept = [items[row] for row in usable]
    return Side(source, kept, vectors[usable], np.array([one.identity for one in kept]), np.array(digests)[usable])


def _encoded(source: sources.Source, item: sources.Item, digests: list[str]) -> bytes:
    """JPEG or PNG as ingestion would hand it on, and in `digests` the file's; both empty where it cannot."""
    try:
        file = source.read(item)
        encoded = pictures.read(file).encoded
    except (sources.ReadError, pictures.BadImage) as error:
        log.warning("left out: %s: %s", item.path, error)
        digests.append("")
        return b""
    digests.append(hashlib.sha256(file).hexdigest())
    return encoded


def render(
    model: str,
    asked: Side,
    known: Side,
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
    first = [{name: row for row, name in reversed(list(enumerate(one.identities.tolist())))} for one in (asked, known)]
    return pages.render(
        "neighbours.html",
        title=f"Neighbours by {model}",
        said=headline(figures(asked, found)),
        total=len(asked.items),
        queries=[_query(asked, known, found, row) for row in worst.tolist()],
        confused=[
            (one, _picture(asked, first[0][one.identity]), _picture(known, first[1][one.other])) for one in confused
        ],
    )


def _query(asked: Side, known: Side, found: neighbours.Found, row: int) -> dict[str, Any]:
    near = [
        {
            **_picture(known, other),
            "similarity": similarity,
            "right": bool(known.identities[other] == asked.identities[row]),
        }
        for other, similarity in zip(found.rows[row].tolist(), found.similarity[row].tolist(), strict=True)
        if similarity == similarity  # NaN: the query had fewer to find
    ]
    ahead = float(found.wrong[row] - found.right[row])
    return {**_picture(asked, row), "found": near, "ahead": ahead, "stranger": bool(np.isnan(found.right[row]))}


def _picture(side: Side, row: int) -> dict[str, str]:
    item = side.items[row]
    try:
        png = images.thumbnail(pictures.read(side.source.read(item)).encoded)
    except (sources.ReadError, pictures.BadImage):
        png = ""  # it has gone since it was embedded
    return {"png": png, "path": item.path, "identity": item.identity}


def figures(asked: Side, found: neighbours.Found) -> dict[str, int]:
    """How many queries there are, how many have nobody to be found, and of how many the nearest is wrong."""
    known = ~np.isnan(found.right)
    wrong = known & (np.nan_to_num(found.wrong, nan=-1.0) >= found.right)
    return {"queries": len(asked.items), "wrong": int(wrong.sum()), "strangers": int((~known).sum())}


def headline(told: dict[str, int]) -> str:
    """One sentence of it."""
    strange = f"; {told['strangers']} have nobody of theirs in the gallery" if told["strangers"] else ""
    return f"Of {told['wrong']} of {told['queries']} queries the nearest image is of somebody else{strange}."

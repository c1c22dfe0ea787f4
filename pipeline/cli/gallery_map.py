"""`longtail gallery map`: a gallery under a newer model without its images, its embeddings mapped at a stated loss."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.pipeline.cli import gallery as gallery_cli

if TYPE_CHECKING:
    from longtail.models.metrics import compatibility
    from longtail.serving import gallery as gallery_lib


@gallery_cli.app.command("map")
def map_(
    data: Annotated[
        str, typer.Argument(help="Folder or .zip: people to fit and measure on.", metavar="DATA", show_default=False)
    ],
    gallery: gallery_cli.Gallery,
    model: Annotated[
        str, typer.Option(help="Folder of the model's versions, the gallery's among them.", metavar="DIR")
    ],
    to: Annotated[int, typer.Option(help="Version to map to.", show_default="the last", metavar="VERSION")] = 0,
    fmr: Annotated[float, typer.Option(help="False match rate of the threshold at which the loss is stated.")] = 0.01,
    most_loss: Annotated[
        float, typer.Option(help="Refused where the true positive rate falls by more, or the false match rate doubles.")
    ] = 0.05,
    layout: gallery_cli.Layout = "folder",
    as_json: gallery_cli.AsJson = False,
) -> None:
    """Makes a version of the gallery for a newer model, without its images: its embeddings, mapped by least squares.

    What that costs is measured on DATA, on people that the map was not fitted to. `longtail gallery add` replaces
    mapped embeddings by the model's own, image by image.
    """
    from longtail.models.metrics import compatibility
    from longtail.pipeline import console
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import gallery_writer

    if not 0 < fmr < 1 or not 0 <= most_loss <= 1:
        raise errors.UsageError(f"--fmr {fmr:g} --most-loss {most_loss:g}: both are shares, from 0 to 1")
    people = gallery_lib.load(gallery)
    folders = _two_versions(people, gallery, model, to)
    with console.lines():
        old, new, identities, digests = _embed_twice(folders, data, layout)
        loss = compatibility.measure(old, new, identities, digests, fmr)
        _check_loss(loss, most_loss)
        mapped = gallery_writer.content(people)
        vectors = compatibility.mapped(mapped.vectors, compatibility.fit(old, new))
        found = gallery_writer.Content(
            people.model_name,
            int(os.path.basename(folders[1])),
            vectors,
            [{**item, gallery_writer.MAPPED_FROM: people.model_version} for item in people.items],
            gallery_cli.thresholds_of(folders[1]),
            {"from": people.model_version, **dataclasses.asdict(loss)},
        )
        path = gallery_writer.write(gallery, found)
    if as_json:
        typer.echo(json.dumps({"path": path, "images": people.count, **(found.mapped or {})}))
    else:
        typer.echo(f"{_costs(loss)}\n{errors.shown(path)}: {people.count} images, mapped")


def _two_versions(people: "gallery_lib.Gallery", gallery: str, model: str, to: int) -> tuple[str, str]:
    """The folders of the version whose embeddings the gallery has, and of the one to map to."""
    from longtail.models.export import versions
    from longtail.serving import gallery_writer

    found = versions.find_complete(model)
    asked = to or next(iter(found), 0)
    for version in (people.model_version, asked):
        if version not in found:
            there = ", ".join(map(str, sorted(found))) or "none"
            raise errors.UsageError(f"--model {model}: no version {version} of a model in it; it has {there}")
    if asked == people.model_version:
        raise errors.UsageError(f"--gallery {gallery} is of version {asked} already; nothing to map")
    if any(gallery_writer.MAPPED_FROM in item for item in people.items):
        raise errors.UsageError(
            f"--gallery {gallery}: embeddings in it are mapped already, and losses add up; embed its images anew with "
            "longtail gallery add"
        )
    return found[people.model_version], found[asked]


def _embed_twice(folders: tuple[str, str], data: str, layout: str) -> tuple[Any, Any, Any, Any]:
    """Embeddings of the images that both models can embed, their identities and the digests of their files."""
    import numpy as np

    from longtail.pipeline.cli import evaluate_images

    images = evaluate_images.listed(data, layout)
    evaluate_images.check_identities(images)
    old, new = (evaluate_images.embed(evaluate_images.embedder(folder), images) for folder in folders)
    usable = old.usable & new.usable
    if not usable.any():
        raise errors.WorkError(f"none of {len(images)} images of {data} can be embedded by both models")
    identities = np.array([image.item.identity for image in images])
    return old.vectors[usable], new.vectors[usable], identities[usable], np.array(old.digests)[usable]


def _costs(loss: "compatibility.Loss") -> str:
    return (
        f"at the new version's threshold for a false match rate of {loss.fmr:g}, {100 * loss.tpr:.1f} % of pairs of "
        f"one person match by its own embeddings and {100 * loss.tpr_mapped:.1f} % against mapped ones, of pairs of "
        f"two people {100 * loss.fmr_mapped:.2g} %; on {loss.identities} people that the map was not fitted to"
    )


def _check_loss(loss: "compatibility.Loss", most: float) -> None:
    if loss.tpr - loss.tpr_mapped > most or loss.fmr_mapped > 2 * loss.fmr:
        raise errors.WorkError(
            f"not mapped: {_costs(loss)}; embed the gallery's images anew, give more images to fit on, or raise "
            f"--most-loss above {most:g}"
        )

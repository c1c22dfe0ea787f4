"""`longtail gallery`: people nobody trained on, enrolled from a folder of images without retraining."""

import collections
import dataclasses
import json
import logging
import os
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline.cli import clients

if TYPE_CHECKING:
    from longtail.components.data import sources
    from longtail.serving import client
    from longtail.serving import gallery_writer

_CHUNK = 1024  # images read and embedded at once

log = logging.getLogger("longtail")

app = typer.Typer(help="Who is known: galleries of people nobody trained on.", no_args_is_help=True)

Gallery = Annotated[
    str, typer.Option(help="Folder of the gallery: it holds a folder for each version.", metavar="DIR")
]
Data = Annotated[
    str, typer.Argument(help="Folder or .zip: a folder of images an identity.", metavar="DATA", show_default=False)
]
Layout = Annotated[str, typer.Option(help="How paths tell identities.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def build(
    data: Data,
    gallery: Gallery,
    model: Annotated[
        str, typer.Option(help="Folder of the model's versions, as the server serves it.", metavar="DIR")
    ],
    server: clients.Server = "localhost:8500",
    model_name: Annotated[
        str, typer.Option(help="What the server calls the model.", show_default="the name of --model")
    ] = "",
    layout: Layout = "folder",
    as_json: AsJson = False,
    batch_size: clients.BatchSize = 32,
    timeout: clients.Timeout = 60.0,
    root_ca: clients.RootCa = "",
    certificate: clients.Certificate = "",
    key: clients.Key = "",
    token_file: clients.TokenFile = "",
) -> None:
    """Makes a gallery of a folder of people, by the latest version of a model; its thresholds go with it."""
    from longtail.models.export import versions
    from longtail.pipeline import console
    from longtail.serving import client
    from longtail.serving import gallery_writer

    if versions.find(gallery):
        raise errors.UsageError(f"--gallery {gallery}: there is one; longtail gallery add enrols more people")
    clients.check_model_folder(model)
    name = model_name or os.path.basename(os.path.normpath(model))
    proof = clients.security_of(root_ca, certificate, key, token_file)
    with console.lines(), client.Client(server, name, timeout, batch_size, proof) as connection:
        found = _embed(connection, data, layout, None)
        folder = versions.find(model).get(found.model_version)
        if folder is None:
            raise errors.UsageError(
                f"--model {model} has no version {found.model_version}, which the server answered with"
            )
        found = dataclasses.replace(found, thresholds=thresholds_of(folder))
        path = gallery_writer.write(gallery, found)
    _print(path, found, as_json)


@app.command()
def add(
    data: Data,
    gallery: Gallery,
    server: clients.Server = "localhost:8500",
    model_name: Annotated[
        str, typer.Option(help="What the server calls the model.", show_default="the model that built the gallery")
    ] = "",
    layout: Layout = "folder",
    as_json: AsJson = False,
    batch_size: clients.BatchSize = 32,
    timeout: clients.Timeout = 60.0,
    root_ca: clients.RootCa = "",
    certificate: clients.Certificate = "",
    key: clients.Key = "",
    token_file: clients.TokenFile = "",
) -> None:
    """Enrols more people, or more images of those there; an image of an identity that is there already counts once."""
    from longtail.pipeline import console
    from longtail.serving import client
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import gallery_writer

    people = gallery_lib.load(gallery)
    proof = clients.security_of(root_ca, certificate, key, token_file)
    with (
        console.lines(),
        client.Client(server, model_name or people.model_name, timeout, batch_size, proof) as connection,
    ):
        new = _embed(connection, data, layout, people.model_version)
        new = dataclasses.replace(new, model_name=people.model_name)
        found = gallery_writer.joined(gallery_writer.content(people), new)
        if found.items == list(people.items):
            raise errors.UsageError(f"{data}: all its images are in the gallery already; nothing to add")
        path = gallery_writer.write(gallery, found)
    _print(path, found, as_json)


@app.command()
def remove(
    identities: Annotated[list[str], typer.Argument(help="Who.", metavar="IDENTITY...", show_default=False)],
    gallery: Gallery,
    as_json: AsJson = False,
) -> None:
    """Makes a version of the gallery without some people. Versions before it, which still have them, stay."""
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import gallery_writer

    found = gallery_writer.without(gallery_writer.content(gallery_lib.load(gallery)), identities)
    _print(gallery_writer.write(gallery, found), found, as_json)


@app.command()
def merge(
    other: Annotated[str, typer.Argument(help="Folder of the other gallery.", metavar="OTHER", show_default=False)],
    gallery: Gallery,
    as_json: AsJson = False,
) -> None:
    """Enrols whoever is in another gallery of the same model and version."""
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import gallery_writer

    own, theirs = (gallery_writer.content(gallery_lib.load(folder)) for folder in (gallery, other))
    found = gallery_writer.joined(own, theirs)
    if found.items == own.items:
        raise errors.UsageError(f"{other}: all its images are in {gallery} already; nothing to merge")
    _print(gallery_writer.write(gallery, found), found, as_json)


@app.command("list")
def list_(gallery: Gallery, as_json: AsJson = False) -> None:
    """Names who is in the gallery, with the number of images of each."""
    from longtail.serving import gallery as gallery_lib

    people = gallery_lib.load(gallery)
    counts = collections.Counter(item["identity"] for item in people.items)
    if as_json:
        about = {"path": people.path, "model_name": people.model_name, "model_version": people.model_version}
        typer.echo(json.dumps({**about, "images": people.count, "identities": dict(sorted(counts.items()))}))
        return
    for name, images in sorted(counts.items()):
        typer.echo(errors.shown(f"{images:6d}  {name}"))
    typer.echo(_line(people.path, people.count, len(counts), people.model_name, people.model_version))


def thresholds_of(folder: str) -> list[dict[str, Any]]:
    """Those of a model's version folder; none, which is said, where it has none that can be read."""
    from longtail.serving import thresholds

    try:
        return thresholds.of_model(folder)
    except errors.UsageError as error:
        log.warning("%s", error)
        return []


def _embed(
    connection: "client.Client", data: str, layout: str, version: int | None
) -> "gallery_writer.Content":
    """Embeds a folder by one version of the model; says what is left out.

    Raises:
      errors.UsageError: there is no image.
      errors.WorkError: none can be embedded, or the server fails or has no such version.
    """
    import numpy as np

    from longtail.pipeline.cli import evaluate_images
    from longtail.serving import gallery_writer

    images = evaluate_images.listed(data, layout)
    vectors: list[np.ndarray] = []
    items: dict[tuple[str, str], dict[str, Any]] = {}
    for begin in range(0, len(images), _CHUNK):
        some = images[begin : begin + _CHUNK]
        both = zip(some, evaluate_images.read_ahead(some), strict=True)
        read = [(image, file) for image, file in both if file.encoded]
        if not read:
            continue
        embedded = connection.embed([file.encoded for _, file in read], version)
        version = embedded.model_version
        for (image, file), code, vector in zip(read, embedded.status.tolist(), embedded.embedding, strict=True):
            if code != signatures.STATUS_OK:
                log.warning("left out: %s: %s", image.item.path, signatures.STATUS_MEANING.get(code, code))
                continue
            item = _item(image.item, file.digest)
            if items.setdefault((item["identity"], item["sha256"]), item) is item:
                vectors.append(vector)
    if not items:
        raise errors.WorkError(f"none of {len(images)} images of {data} could be embedded")
    return gallery_writer.Content(connection.model_name, version or 0, np.stack(vectors), list(items.values()))


def _item(image: "sources.Item", digest: str) -> dict[str, Any]:
    return {"identity": image.identity, "path": image.path, "sha256": digest, "camera": image.camera}


def _print(path: str, found: "gallery_writer.Content", as_json: bool) -> None:
    identities = len({item["identity"] for item in found.items})
    if as_json:
        about = {"path": path, "model_name": found.model_name, "model_version": found.model_version}
        typer.echo(json.dumps({**about, "images": len(found.items), "identities": identities}))
    else:
        typer.echo(_line(path, len(found.items), identities, found.model_name, found.model_version))


def _line(path: str, images: int, identities: int, model_name: str, model_version: int) -> str:
    of = f"model {model_name} version {model_version}"
    return errors.shown(f"{path}: {images} images of {identities} identities, {of}")

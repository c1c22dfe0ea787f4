"""`longtail embed` and `identify`: questions to a model server."""

import io
import json
import logging
import os
from typing import TYPE_CHECKING
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline.cli import answers as answers_lib

if TYPE_CHECKING:
    from longtail.serving import client
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import security

SOME_FAILED = 4  # exit status: some images could not be embedded, the others are

log = logging.getLogger("longtail")

Images = Annotated[
    list[str],
    typer.Argument(help="Image files, of any format that is trained on.", metavar="IMAGES", show_default=False),
]
Server = Annotated[
    str,
    typer.Option(
        help="gRPC address of a running model server: `longtail serve` or TensorFlow Serving.", metavar="HOST:PORT"
    ),
]
BatchSize = Annotated[int, typer.Option(help="Images sent in one request, at most.", min=1)]
Timeout = Annotated[float, typer.Option(help="Longest wait for one answer, in seconds.")]
RootCa = Annotated[
    str,
    typer.Option(help="Speak TLS with the server, whose certificate must be of this authority, PEM.", metavar="FILE"),
]
Certificate = Annotated[
    str, typer.Option(help="Own certificate, PEM, for a server that asks for one.", metavar="FILE")
]
Key = Annotated[str, typer.Option(help="The certificate's private key, PEM.", metavar="FILE")]
TokenFile = Annotated[
    str,
    typer.Option(
        help="Bring the bearer token in this file. Without it, the environment variable LONGTAIL_TOKEN counts.",
        metavar="FILE",
    ),
]


def check_model_folder(model: str) -> None:
    """Refuses a folder of a model's versions that is not there, before a server is asked for its model."""
    if "://" not in model and not os.path.isdir(model):
        raise errors.UsageError(f"--model {model}: no such folder; name the one with the model's versions")


def embed(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, of any format that is trained on; or one folder or archive of them, embedded into a "
            ".parquet or .npz with paths and identities. The same command goes on with one that was interrupted.",
            metavar="IMAGES",
            show_default=False,
        ),
    ],
    model_name: Annotated[
        str, typer.Option(help="What the server calls the model; `longtail serve` says it when it starts.")
    ],
    server: Server = "localhost:8500",
    output: Annotated[
        str,
        typer.Option(
            help="Write the embeddings there: of files a NumPy array, float32, a row an image; of a folder .parquet or "
            ".npz.",
            metavar="FILE",
        ),
    ] = "",
    layout: Annotated[str, typer.Option(help="Of a folder: how paths tell identities.")] = "folder",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; it has the embeddings unless --output does.")
    ] = False,
    batch_size: BatchSize = 32,
    timeout: Timeout = 60.0,
    root_ca: RootCa = "",
    certificate: Certificate = "",
    key: Key = "",
    token_file: TokenFile = "",
) -> None:
    """Turns images into embeddings through a model server.

    An image that cannot be decoded is named and its row is zeros.
    The others are embedded all the same, and the exit status is 4.
    """
    import numpy as np

    from longtail.models import files
    from longtail.pipeline import console
    from longtail.pipeline.cli import embed_folder
    from longtail.serving import client

    if os.path.isdir(output):
        raise errors.UsageError(f"--output {output} is a folder; name a file in it")
    if output and not os.path.isdir(os.path.dirname(output) or ".") and "://" not in output:
        raise errors.UsageError(f"--output {output}: its folder does not exist; make it first")
    folder = embed_folder.asked(images, output)
    proof = security_of(root_ca, certificate, key, token_file)
    with console.lines(), client.Client(server, model_name, timeout, batch_size, proof) as connection:
        if folder:
            told = embed_folder.embed(connection, folder, layout, output)
            typer.echo(json.dumps(told) if as_json else embed_folder.line(told))
            if told["failed"]:
                raise typer.Exit(SOME_FAILED)
            return
        embedded = connection.embed(images)
    if output:
        array = io.BytesIO()
        np.save(array, embedded.embedding)
        files.write(output, array.getvalue())
    if as_json:
        typer.echo(json.dumps(_embeddings_json(images, embedded, model_name, output)))
    else:
        _print_embeddings(images, embedded, output)
    _end(images, embedded.status.tolist())


def security_of(root_ca: str, certificate: str, key: str, token_file: str) -> "security.Security":
    from longtail.serving import security

    return security.Security(root_ca, certificate, key, security.token(token_file, os.environ))


def _embeddings_json(images: list[str], embedded: "client.Embedded", model_name: str, output: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"path": path, "status": code} for path, code in zip(images, embedded.status.tolist(), strict=True)
    ]
    about: dict[str, Any] = {"model_name": model_name, "model_version": embedded.model_version}
    if output:
        about["output"] = output
    else:
        for row, embedding in zip(rows, embedded.embedding.tolist(), strict=True):
            row["embedding"] = embedding
    return {**about, "images": rows}


def _print_embeddings(images: list[str], embedded: "client.Embedded", output: str) -> None:
    for path, code, embedding in zip(images, embedded.status.tolist(), embedded.embedding, strict=True):
        if code == signatures.STATUS_OK and not output:
            typer.echo(f"{errors.shown(path)}  {' '.join(f'{value:.6g}' for value in embedding)}")
    where = f" -> {output}" if output else ""
    readable = sum(code == signatures.STATUS_OK for code in embedded.status.tolist())
    dimension, version = embedded.embedding.shape[1], embedded.model_version
    typer.echo(f"{readable} of {len(images)} images, {dimension}-d, model version {version}{where}")


def _end(images: list[str], status: list[int]) -> None:
    """Names what could not be embedded, which the exit status tells too."""
    from longtail.pipeline import console

    unreadable = [(path, code) for path, code in zip(images, status, strict=True) if code != signatures.STATUS_OK]
    with console.lines():
        for path, code in unreadable:
            log.warning("image %s: %s", path, signatures.STATUS_MEANING.get(code, f"status {code}"))
    if len(unreadable) == len(images):
        raise errors.WorkError(f"none of the {len(images)} images could be embedded; the server could decode none")
    if unreadable:
        raise typer.Exit(SOME_FAILED)


def identify(
    images: Images,
    gallery: Annotated[
        str, typer.Option(help="Folder of the gallery: it holds a folder for each version.", metavar="DIR")
    ],
    server: Server = "localhost:8500",
    model_name: Annotated[
        str, typer.Option(help="What the server calls the model.", show_default="the model that built the gallery")
    ] = "",
    k: Annotated[int, typer.Option(help="How many gallery images to name for each image.", min=1)] = 5,
    threshold: answers_lib.ThresholdOption = None,
    fmr: answers_lib.FmrOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    batch_size: BatchSize = 32,
    timeout: Timeout = 60.0,
    root_ca: RootCa = "",
    certificate: Certificate = "",
    key: Key = "",
    token_file: TokenFile = "",
) -> None:
    """Says who is on each image: the nearest images of a gallery, by cosine similarity.

    The images are embedded through the model server, by the version that built the gallery.
    The gallery is searched here, exactly. With --threshold or --fmr, each image also has an answer:
    the nearest identity and how far the next one is behind, or that it is unknown.
    The exit status is 4 where some of the images could not be embedded.
    """
    from longtail.pipeline import console
    from longtail.serving import client
    from longtail.serving import gallery as gallery_lib

    people = gallery_lib.load(gallery)
    bar = answers_lib.chosen(threshold, fmr, people.thresholds, f"gallery {people.path}")
    name = model_name or people.model_name
    proof = security_of(root_ca, certificate, key, token_file)
    with client.Client(server, name, timeout, batch_size, proof) as connection:
        embedded = embed_for(people, connection, images)
    note = people.mismatch(name)
    status = embedded.status.tolist()
    found = [
        matches if code == signatures.STATUS_OK else []
        for code, matches in zip(status, people.identify(embedded.embedding, k), strict=True)
    ]
    answers = answers_lib.answers(people, bar, embedded) if bar else [None] * len(images)
    if as_json:
        told = _identified(images, status, found, people, name, embedded.model_version, note)
        typer.echo(json.dumps(answers_lib.with_answers(told, bar, answers) if bar else told))
    else:
        _print_matches(images, status, found, answers)
    with console.lines():
        if note:
            log.warning("%s", note)
    _end(images, status)


def embed_for(people: "gallery_lib.Gallery", connection: "client.Client", images: list[str]) -> "client.Embedded":
    """Embeds images with the version that built the gallery; embeddings of two versions cannot be compared."""
    from longtail.serving import client

    try:
        return connection.embed(images, people.model_version)
    except client.VersionNotServedError as error:
        answering = " and ".join(map(str, error.available)) or "none"
        raise errors.WorkError(
            f"gallery {people.path} was built by model {people.model_name} version {people.model_version}, but the "
            f"server at {connection.server} answers with version {answering}; build the gallery with that version, or "
            f"serve version {people.model_version}"
        ) from error


def _identified(
    images: list[str], status: list[int], found: list[Any], people: Any, name: str, version: int, note: str | None
) -> dict[str, Any]:
    import dataclasses

    return {
        "model_name": name,
        "model_version": version,
        "gallery": {
            "path": people.path,
            "version": people.version,
            "model_name": people.model_name,
            "model_version": people.model_version,
            "count": people.count,
        },
        "note": note,
        "images": [
            {"path": path, "status": code, "matches": [dataclasses.asdict(match) for match in matches]}
            for path, code, matches in zip(images, status, found, strict=True)
        ],
    }


def _print_matches(images: list[str], status: list[int], found: list[Any], answers: list[Any]) -> None:
    for path, code, matches, answer in zip(images, status, found, answers, strict=True):
        if code == signatures.STATUS_OK:
            typer.echo(errors.shown(f"{path}: {answer}" if answer else path))
        for match in matches:
            typer.echo(errors.shown(f"  {match.similarity:7.4f}  {match.identity}  {match.path}"))

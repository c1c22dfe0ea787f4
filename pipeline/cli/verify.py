"""`longtail verify`: are two images of one identity?"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline.cli import answers
from longtail.pipeline.cli import clients

NOT_THE_SAME = 3  # exit status
_RATE = 0.001


def verify(
    one: Annotated[str, typer.Argument(help="A JPEG or PNG file.", metavar="A", show_default=False)],
    other: Annotated[str, typer.Argument(help="Another one.", metavar="B", show_default=False)],
    server: clients.Server = "localhost:8500",
    model: Annotated[
        str,
        typer.Option(help="Folder of the model's versions, whose thresholds count.", metavar="DIR", show_default=False),
    ] = "",
    gallery: Annotated[
        str,
        typer.Option(
            help="Or a gallery's folder: its thresholds count, and its model version answers.",
            metavar="DIR",
            show_default=False,
        ),
    ] = "",
    model_name: Annotated[
        str,
        typer.Option(help="What the server calls the model.", show_default="name of --model, or the gallery's model"),
    ] = "",
    threshold: answers.ThresholdOption = None,
    fmr: answers.FmrOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    timeout: clients.Timeout = 60.0,
    root_ca: clients.RootCa = "",
    certificate: clients.Certificate = "",
    key: clients.Key = "",
    token_file: clients.TokenFile = "",
) -> None:
    """Says whether two images are of one identity. Exit status: 0 for the same, 3 for different or undecided.

    The threshold is --threshold, or the one that was measured for a false match rate with the
    version that answers: --fmr, by default 0.001, or the smallest it was measured for if that is larger.
    Undecided is a similarity within the interval of that measurement.
    """
    from longtail.serving import client
    from longtail.serving import gallery as gallery_lib
    from longtail.serving import similarity as similarity_lib

    _check(model, gallery, threshold)
    people = gallery_lib.load(gallery) if gallery else None
    name = model_name or (people.model_name if people else os.path.basename(os.path.normpath(model)) if model else "")
    if not name:
        raise errors.UsageError("--threshold alone does not say which model; give --model-name too")
    proof = clients.security_of(root_ca, certificate, key, token_file)
    with client.Client(server, name, timeout, security=proof) as connection:
        if people:
            embedded = clients.embed_for(people, connection, [one, other])
        else:
            embedded = connection.embed([one, other])
    for path, code in zip((one, other), embedded.status.tolist(), strict=True):
        if code != signatures.STATUS_OK:
            raise errors.WorkError(f"image {path}: {signatures.STATUS_MEANING.get(code, f'status {code}')}")
    calibrated, where = _calibrated(people, model, embedded.model_version, threshold)
    if threshold is None and fmr is None:
        fmr = _rate(calibrated)
    bar = answers.chosen(threshold, fmr, calibrated, where)
    assert bar is not None  # one of the two is given
    similarity = similarity_lib.cosine(*embedded.embedding)
    verdict = bar.judge(similarity)
    if as_json:
        about = {"model_name": name, "model_version": embedded.model_version, "threshold": dataclasses.asdict(bar)}
        typer.echo(json.dumps({"verdict": verdict, "similarity": similarity, **about}))
    else:
        typer.echo(f"{verdict}  {similarity:.4f}  {bar}")
    if verdict != "same":
        raise typer.Exit(NOT_THE_SAME)


def _rate(calibrated: Sequence[dict[str, Any]]) -> float:
    """The false match rate where none is asked for."""
    rates = {one["fmr"] for one in calibrated if isinstance(one, dict) and "fmr" in one}
    return _RATE if _RATE in rates or not rates else min(rates)


def _check(model: str, gallery: str, threshold: float | None) -> None:
    if model and gallery:
        raise errors.UsageError("--model and --gallery both have thresholds; give one of them")
    if model:
        clients.check_model_folder(model)
    if threshold is None and not model and not gallery:
        raise errors.UsageError("no threshold: give --model or --gallery, whose calibrated ones count, or --threshold")


def _calibrated(people: Any, model: str, version: int, threshold: float | None) -> tuple[Sequence[dict[str, Any]], str]:
    """Thresholds of the version that answered, and whose they are; none are looked for where one is given."""
    from longtail.models.export import versions
    from longtail.serving import thresholds

    if threshold is not None:
        return (), ""
    if people:
        return people.thresholds, f"gallery {people.path}"
    folder = versions.find(model).get(version)
    if folder is None:
        raise errors.UsageError(
            f"--model {model} has no version {version}, which answered; name the folder that the server serves"
        )
    return thresholds.of_model(folder), folder

"""`longtail calibrate`: from which similarity on two images are one identity's, measured on images of one's own."""

import json
import logging
import os
from typing import Annotated
from typing import Any

import typer

from longtail.models import errors
from longtail.models import files as files_lib
from longtail.models.export import signatures
from longtail.pipeline.cli import evaluate_images

log = logging.getLogger("longtail")


def calibrate(
    model: Annotated[
        str, typer.Option(help="SavedModel: a version folder, or a folder of versions (the last).")
    ],
    data: Annotated[str, typer.Option(help="Folder or .zip of people that the model was not trained on.")],
    fmr: Annotated[
        list[float] | None,
        typer.Option(
            help="False match rate, given once or more.", show_default="0.1, 0.01, ... as far as the data support them"
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="How paths tell identities.")] = "folder",
    write: Annotated[
        bool, typer.Option("--write/--no-write", help="Write them into the version folder, where verify reads them.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is written.")] = False,
) -> None:
    """Measures thresholds for false match rates on all pairs of images, with intervals over identities.

    A rate needs 30 pairs that would be taken for the same by mistake: 30,000 pairs of different
    identities for 0.001.
    """
    for rate in fmr or ():
        if not 0 < rate < 1:
            raise errors.UsageError(f"--fmr {rate:g}: a false match rate is above 0 and below 1")
    from longtail.models.metrics import calibration
    from longtail.models.metrics import verification
    from longtail.pipeline import console

    with console.lines():
        embedded = evaluate_images.embed_data(model, data, layout)
        rates = sorted(fmr or verification.RATES, reverse=True)
        found = calibration.calibrate(embedded.vectors, embedded.identities, embedded.digests, rates)
        _check(found, fmr or [], data)
        if write:
            path = os.path.join(embedded.model, signatures.THRESHOLDS_FILE)
            files_lib.write_json(path, found)
            log.info("written to %s", path)
    _print(found, as_json)


def _check(found: dict[str, Any], asked: list[float], data: str) -> None:
    supported = {one["fmr"] for one in found["thresholds"]}
    missing = [rate for rate in asked if rate not in supported]
    if missing or not supported:
        rate = f"--fmr {missing[0]:g}" if missing else "no false match rate"
        verb = "is not supported" if missing else "is supported"
        raise errors.WorkError(
            f"{rate} {verb} by {data}: its {found['different']} pairs of different identities carry "
            f"{found['smallest_fmr']:.2g} at the least; give images of more people"
        )


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    import rich.table

    from longtail.pipeline import console

    table = rich.table.Table("false match rate", "threshold (95 % interval)", "false non-match rate (95 % interval)")
    for one in found["thresholds"]:
        table.add_row(
            f"{one['fmr']:g}",
            f"{one['threshold']:.4f} ({one['interval'][0]:.4f} to {one['interval'][1]:.4f})",
            f"{one['fnmr']:.4f} ({one['fnmr_interval'][0]:.4f} to {one['fnmr_interval'][1]:.4f})",
        )
    console.out().print(table)
    console.out().print(
        f"{found['images']} images of {found['identities']} identities: {found['same']} pairs of the same, "
        f"{found['different']} of different ones"
    )

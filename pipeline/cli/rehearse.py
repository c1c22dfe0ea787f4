"""`longtail rehearse`: a compiled pipeline on this machine, as Kubeflow's driver and launcher would run it."""

import datetime
import json
import os
from typing import Annotated
from typing import Literal

import typer


def rehearse(
    file: Annotated[str, typer.Argument(help="The compiled pipeline, a .yaml file.", metavar="PIPELINE.YAML")],
    root: Annotated[str, typer.Option(help="Folder of everything the rehearsal writes; an unfinished one goes on.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="Value of a runtime parameter, NAME=VALUE. Repeatable.")
    ] = None,
    subprocess: Annotated[
        bool, typer.Option("--subprocess", help="Run each container as a fresh process, away from this checkout.")
    ] = False,
    profile: Annotated[
        Literal["kfp", "vertex"],
        typer.Option(help="kfp: what open-source Kubeflow does; vertex: driver hooks and resolvers run as well."),
    ] = "kfp",
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's record as one JSON object.")] = False,
) -> None:
    """Run a compiled pipeline without a cluster, container command by container command.

    Stops at the first step that fails, with the last words of its log and exit status 1. The same command again goes
    on where the run stopped; after a run that succeeded it starts another, with the cache that Kubeflow would have.
    """
    from longtail.models import errors
    from longtail.pipeline import console
    from longtail.pipeline.kubeflow import parameters
    from longtail.pipeline.kubeflow.rehearse import rehearsal as rehearse_lib
    from longtail.pipeline.local import root_folder

    plan = rehearse_lib.Plan(file, root, parameters.pairs(param or []), profile, subprocess)
    ready = rehearse_lib.prepare(plan)
    log_file = os.path.join(root, "logs", f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log")
    with root_folder.hold(root), console.quiet(log_file) as screen:
        content = rehearse_lib.rehearse(ready, screen)
    if as_json:
        print(json.dumps(content))
    else:
        rehearse_lib.print_table(content)
    if "failed" in content:
        failed = content["failed"]
        raise errors.WorkError(f"{failed}: {content['steps'][failed]['error']}")


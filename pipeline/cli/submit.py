"""`longtail submit`: sends a compiled pipeline to Kubeflow Pipelines and starts a run of it."""

import json
import os
from typing import TYPE_CHECKING
from typing import Annotated

import typer

if TYPE_CHECKING:
    from longtail.pipeline.kubeflow.submit import kfp_api
    from longtail.pipeline.kubeflow.submit import submission as submit_lib

_LOOK_EVERY_S = 10.0


def submit(
    path: Annotated[
        str, typer.Argument(help="What `longtail compile` wrote.", metavar="PIPELINE.yaml", show_default=False)
    ],
    endpoint: Annotated[
        str,
        typer.Option(
            help="Kubeflow Pipelines: what stands before /apis/v2beta1. http only with a token on this machine.",
            metavar="URL",
        ),
    ],
    experiment: Annotated[
        str, typer.Option(help="What the run is listed under; made where there is none.")
    ] = "Default",
    run: Annotated[
        str,
        typer.Option(
            help="Name of the run: an experiment has one of it, however often this is sent.",
            show_default="the pipeline's name, but for a recurring run with a digest of file and parameters",
        ),
    ] = "",
    param: Annotated[
        list[str] | None, typer.Option(help="A runtime parameter of the file. May be repeated.", metavar="KEY=VALUE")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Of a Kubeflow with profiles; leave it out elsewhere.")] = "",
    ca: Annotated[
        str, typer.Option(help="PEM file of certificates to trust instead of the system's.", metavar="FILE")
    ] = "",
    recurring: Annotated[
        str | None,
        typer.Option(
            help="Start a run at every time of this cron expression instead: seconds, minutes, hours, day of the "
            "month, month, day of the week, such as '0 0 3 * * *'.",
            metavar="CRON",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run's end; exit status 1 where it fails.")] = False,
    timeout: Annotated[float, typer.Option(help="Longest wait for one answer, in seconds.", min=0.1)] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send a compiled pipeline to Kubeflow Pipelines and start a run of it.

    The bearer token is read from LONGTAIL_KFP_TOKEN.
    Sent again, the same run is found, not started twice: also where the answer was lost on the way.
    """
    from longtail.pipeline import console
    from longtail.pipeline.kubeflow import parameters
    from longtail.pipeline.kubeflow.submit import kfp_api
    from longtail.pipeline.kubeflow.submit import submission as submit_lib

    asked = submit_lib.prepare(path, experiment, run, parameters.pairs(param or []), namespace)
    options = kfp_api.Options(endpoint, os.environ.get(kfp_api.TOKEN_VARIABLE, "").strip(), ca, timeout)
    if recurring is not None:
        _recur(options, asked, run, recurring, wait, as_json)
        return
    with console.lines(), kfp_api.Api(options) as api:
        found, started = submit_lib.submit(api, asked)
        run_id = found["run_id"]
        if not as_json:
            what = "started" if started else "is there already, nothing was started"
            typer.echo(f"run {asked.run} of pipeline {asked.name} {what}: {api.page(run_id)}")
        if wait:
            found = submit_lib.wait(api, run_id, _LOOK_EVERY_S, lambda state: console.log.info("%s", state))
        state = found.get("state", "")
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "run": asked.run,
                        "run_id": run_id,
                        "experiment_id": found.get("experiment_id", ""),
                        "started": started,
                        "state": state,
                        "page": api.page(run_id),
                    }
                )
            )
        if wait and state in submit_lib.BAD_ENDS:
            _fail(asked.run, state, submit_lib.failures(found), api.page(run_id))


def _recur(
    options: "kfp_api.Options", asked: "submit_lib.Submission", run: str, cron: str, wait: bool, as_json: bool
) -> None:
    from longtail.models import errors
    from longtail.pipeline import console
    from longtail.pipeline.kubeflow.submit import kfp_api
    from longtail.pipeline.kubeflow.submit import recurring

    if wait:
        raise errors.UsageError("--wait: a recurring run has no end to wait for; leave it out")
    cron, asked = recurring.check_cron(cron), recurring.prepare(asked, run)
    with console.lines(), kfp_api.Api(options) as api:
        found, made = recurring.submit(api, asked, cron)
        run_id = found["recurring_run_id"]
        page = api.page(run_id, "recurringrun")
    if as_json:
        told = {"recurring_run": asked.run, "recurring_run_id": run_id, "cron": cron, "made": made, "page": page}
        typer.echo(json.dumps({**told, "experiment_id": found.get("experiment_id", "")}))
        return
    what = "made" if made else "is there already, nothing was made"
    typer.echo(f"recurring run {asked.run} of pipeline {asked.name}, at {cron}, {what}: {page}")


def _fail(run: str, state: str, failures: list[str], page: str) -> None:
    from longtail.models import errors

    why = f" ({'; '.join(failures)})" if failures else ""
    raise errors.WorkError(f"run {run} ended {state}{why}; its logs are at {page}")

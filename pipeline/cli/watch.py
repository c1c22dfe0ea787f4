"""`longtail watch`: takes deliveries as they come, each through `longtail run`."""

import dataclasses
import json
import os
from typing import Annotated

import typer

from longtail.pipeline.cli import run as run_command
from longtail.pipeline.cli import signals


def watch(
    recipe: run_command.RecipeOption,
    data: Annotated[
        str,
        typer.Option(
            help="Folder or archive of a delivery; {SPAN} in it stands for its number, {SPAN:04d} for four digits."
        ),
    ],
    root: Annotated[str, typer.Option(help="Folder of everything the runs write, as of `longtail run`.")],
    first: Annotated[int, typer.Option(help="Number of the first span.", min=1)] = 1,
    interval: Annotated[
        float,
        typer.Option(
            help="Seconds between two looks. Without --marker, a delivery that stays as it is for so long is complete.",
            min=0.01,
        ),
    ] = 10.0,
    marker: Annotated[
        str,
        typer.Option(
            help="A delivery is complete when this file lies in it, or, of an archive, behind its name: --marker .done "
            "waits for span-1.zip.done.",
            metavar="NAME",
            show_default="none: its listing tells",
        ),
    ] = "",
    skip_gaps: Annotated[
        bool, typer.Option("--skip-gaps", help="Take a span though the one before it is not there.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Do what is there and end; exit status 1 where a run pushed nothing.")
    ] = False,
    metrics: Annotated[
        str, typer.Option(help="File for Prometheus, by node_exporter's textfile collector.", metavar="FILE.prom")
    ] = "",
    set_: run_command.SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a run instead of a line.")] = False,
) -> None:
    """Wait for deliveries of images and run the whole pipeline on each, in order; go on after a rejected one.

    DIR/watch.jsonl has a line of JSON for each run, DIR/watch.html all of it on a page.
    Stopped by Ctrl-C or SIGTERM, or killed, the same command goes on where it was.
    """
    from longtail.models import errors
    from longtail.models import files
    from longtail.pipeline import console
    from longtail.pipeline.local import root_folder
    from longtail.pipeline.report import watch_page
    from longtail.pipeline.watch import child
    from longtail.pipeline.watch import deliveries as deliveries_lib
    from longtail.pipeline.watch import journal as journal_lib
    from longtail.pipeline.watch import metrics as metrics_lib
    from longtail.pipeline.watch import watcher as watcher_lib

    deliveries = deliveries_lib.Deliveries(data, marker)
    if metrics:
        metrics_lib.check(metrics)
    asked = ["--recipe", recipe, *(word for one in set_ or () for word in ("--set", one))]
    about = {"recipe": recipe, "pattern": deliveries.pattern, "root": os.path.abspath(root)}

    def command(span: int) -> list[str]:
        where = ["--data", deliveries.pattern, "--root", root, "--span", str(span)]
        return [*child.LONGTAIL, "run", *asked, *where, "--json"]

    def show(state: str) -> None:
        files.write(os.path.join(root, watch_page.WATCH_FILE), watch_page.render(journal, state, about))
        if metrics:
            metrics_lib.write(metrics, journal, about["root"])

    def say(state: str) -> None:
        console.log.info("%s", state)
        show(state)

    def tell(one: journal_lib.Entry) -> None:
        print(json.dumps(dataclasses.asdict(one)) if as_json else errors.shown(one.line()), flush=True)

    plan = watcher_lib.Plan(root, first, interval, skip_gaps, once)
    with signals.stops():
        child.check([*child.LONGTAIL, "recipe", recipe, *asked[2:], "--json"])
        with root_folder.hold_watch(root), console.lines():
            journal = journal_lib.Journal(root)
            try:
                watcher_lib.Watcher(plan, deliveries, journal, command, say).watch(tell)
            except (errors.Stopped, errors.UsageError, errors.WorkError) as end:  # its line is printed where all are
                show(str(end))
                raise

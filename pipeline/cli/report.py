"""`longtail report`: one page of what a run did, from its data to its model."""

import json
import os
from typing import Annotated

import typer

from longtail.models import errors


def report(
    root: Annotated[str, typer.Argument(help="The --root of a run.", metavar="ROOT", show_default=False)],
    output: Annotated[
        str, typer.Option(help="Where to write the page.", metavar="FILE", show_default="ROOT/report.html")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write one HTML page of the last run in a root: data, gate, training, scores, cost, lineage, model card.

    Every run writes it when it ends, also one that was stopped.
    The page of the drift gate, which it links, is written into the folder drift beside it.
    """
    from longtail.pipeline.local import root_folder
    from longtail.pipeline.report import run_page

    page = output or os.path.join(root, root_folder.REPORT_FILE)
    folder = os.path.dirname(os.path.abspath(page))
    if output and not os.path.isdir(folder):
        raise errors.UsageError(f"--output {output}: there is no folder {folder}; make it, or name another file")
    run = run_page.write(root, page)
    state = run_page.verdict(run)
    if as_json:
        print(json.dumps({"report": page, **state}))
    else:
        print(errors.shown(f"{state['said']} {state['why']}".strip()))
        print(errors.shown(f"report {page}"))

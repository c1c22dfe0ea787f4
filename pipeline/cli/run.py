"""`longtail run`, the whole pipeline on this machine, and `longtail try`, the pushed model put to use."""

import datetime
import json
import os
from typing import TYPE_CHECKING
from typing import Annotated

import typer

from longtail.models import errors
from longtail.pipeline.cli import signals

if TYPE_CHECKING:
    from longtail.pipeline import recipe as recipe_lib

RecipeOption = Annotated[str, typer.Option(help="Name of a recipe, or the path of a .yaml file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one value, e.g. head.scale=16. Repeatable.")
]
BeamOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Arguments of Apache Beam for every step that runs on it, one or several in quotes, such as "
        "--beam-pipeline-args=\"--direct_running_mode=multi_processing --direct_num_workers=4\". Repeatable.",
        metavar="ARGS",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def run(
    recipe: RecipeOption,
    root: Annotated[str, typer.Option(help="Folder of everything the run writes; an interrupted run goes on there.")],
    data: Annotated[
        str | None, typer.Option(help="Folder or .zip of images, one folder an identity; {SPAN} is replaced.")
    ] = None,
    span: Annotated[int, typer.Option(help="Number of this span of data, from 1.")] = 1,
    accept_drift: Annotated[
        str | None,
        typer.Option(help="Accept this span although it has drifted, for the reason given, which is recorded."),
    ] = None,
    accept_scores: Annotated[
        str | None,
        typer.Option(
            help="Bless the model although its mAP, on all images or on a span's, is below evaluation.floor_map or the "
            "margin, for the reason given, which is recorded."
        ),
    ] = None,
    request_log: Annotated[
        str,
        typer.Option(
            help="Folder that `longtail serve --request-log` filled: what serving was asked about is compared with the "
            "images to be trained on, and skew stops the run as drift does.",
            metavar="DIR",
        ),
    ] = "",
    set_: SetOption = None,
    beam_pipeline_args: BeamOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the whole pipeline: ingest, check, gate, rebalance, train, score, bless, push, build the gallery."""
    from longtail.pipeline import beam
    from longtail.pipeline import console
    from longtail.pipeline import recipe as recipe_lib
    from longtail.pipeline.local import root_folder

    beam_args = beam.split(beam_pipeline_args or ())
    beam.check(beam_args)
    log_file = os.path.join(root, "logs", f"{datetime.datetime.now():%Y%m%d-%H%M%S}.log")
    drift, scores = _reason("--accept-drift", accept_drift), _reason("--accept-scores", accept_scores)
    with signals.stops():
        loaded = recipe_lib.load(recipe, set_ or ())
        source = _source(loaded, data, span, root)
        request_log = _request_log(request_log)
        with root_folder.hold(root), console.quiet(log_file) as screen:
            shown = errors.shown(f"recipe {loaded.name}, span {span} -> {root}")
            screen.print(shown, highlight=False, markup=False, soft_wrap=True)
            shown = errors.shown(f"TensorFlow's and TFX's own words go to {log_file}; loading TFX")
            screen.print(shown, highlight=False, markup=False, soft_wrap=True)
            from longtail.pipeline.local import run as run_lib

            summary = run_lib.run(loaded, root, source, span, drift, scores, screen, request_log, beam_args)
    if as_json:
        print(json.dumps(summary))
    else:
        run_lib.print_table(summary, root)
    if not summary["blessed"]:
        raise errors.WorkError(f"the model was not blessed, nothing was pushed: {summary['reason']}")


def _reason(option: str, text: str | None) -> str:
    """Why something is accepted; "" where nothing is to be."""
    if text is not None and not text.strip():
        raise errors.UsageError(f"{option}: the reason is empty; it is kept, so say why, or leave {option} out")
    return text or ""


def _source(recipe: "recipe_lib.Recipe", data: str | None, span: int, root: str) -> str:
    """Where the images are, once it is known that they will do: nothing is made in the root before."""
    from longtail.components import config
    from longtail.components.data import sources
    from longtail.models import settings
    from longtail.pipeline.local import preflight
    from longtail.pipeline.local import root_folder

    source = data or recipe.data.source
    if not source:
        raise errors.UsageError(f"recipe {recipe.name!r} has no data of its own; give --data PATH")
    settings.check_values(config.Span, "--", span=span)
    root_folder.check_place(root)
    source = sources.absolute(source)
    preflight.check(recipe, source, span, root_folder.registry(root, recipe.name))
    return source


def _request_log(folder: str) -> str:
    """Its absolute path, once it is known that there is something in it."""
    from longtail.components.serving_skew import requests

    if not folder:
        return ""
    requests.files(folder)
    return folder if "://" in folder else os.path.abspath(folder)


def smoke_test(
    root: Annotated[str, typer.Option(help="Root of a finished run that pushed a model.")],
    images: Annotated[int, typer.Option(help="How many held-out query images to identify.", min=1)] = 200,
    as_json: JsonOption = False,
) -> None:
    """Serve the pushed model, embed and identify held-out images through the server, and say how it went."""
    from longtail.pipeline.local import root_folder

    summary = root_folder.finished(root)
    from longtail.pipeline.local import smoke_test as smoke_test_lib

    result = smoke_test_lib.run(summary, images)
    if as_json:
        print(json.dumps(result))
    else:
        smoke_test_lib.print_result(result)

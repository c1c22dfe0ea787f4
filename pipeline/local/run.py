"""The main job: one span of images from folder to served model, resumable, with a record and a summary."""

import dataclasses
import hashlib
import json
import logging
import os
import shlex
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table
from tfx import v1 as tfx

from longtail.components import config as component_config
from longtail.components.data import sources
from longtail.components.image_example_gen import division
from longtail.models import config
from longtail.models import errors
from longtail.models import files
from longtail.models import head_tail
from longtail.models.export import starts
from longtail.models.metrics import metric
from longtail.models.training import position as position_lib
from longtail.pipeline import beam
from longtail.pipeline import console as console_lib
from longtail.pipeline import graph
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import leftovers
from longtail.pipeline.local import outcome
from longtail.pipeline.local import record as record_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.local import runner
from longtail.pipeline.local import summaries
from longtail.pipeline.local import tracking

log = logging.getLogger("longtail")

# Of the table of tail health: the column's title, its key in `longtail.models.training.tail_health`, and its digits.
_HEALTH = (
    ("classes", "classes", 0),
    ("angle, rad", "angular_mean", 4),
    ("variance, rad²", "angular_variance", 5),
    ("share with a cloud", "classes_with_cloud", 3),
    ("its width, rad", "cloud_width", 4),
    ("weight norm", "weight_norm", 3),
)


def places(root: str, model_name: str) -> graph.Places:
    """Where a root keeps what outlives a run."""
    return graph.Places(
        registry=root_folder.registry(root, model_name),
        models=os.path.join(root, "models", model_name),
        galleries=os.path.join(root, "galleries", model_name),
        checkpoints=os.path.join(root, "checkpoints"),
    )


def run(
    recipe: recipe_lib.Recipe,
    root: str,
    source: str,
    span: int = 1,
    accept_drift: str = "",
    accept_scores: str = "",
    console: rich.console.Console | None = None,
    request_log: str = "",
    beam_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs the whole pipeline on one span.

    Args:
      recipe: what to do.
      root: folder of everything the run writes; a run that was cut goes on there.
      source: where the images are; an absolute path, or a URI.
      span: number of the span.
      accept_drift: reason to accept the span although it has drifted.
      accept_scores: reason to bless the model although its scores are below the floor or the margin.
      console: where to say what happens; standard error where None.
      request_log: folder of what serving was asked about, to be compared with what is trained on; "" for none.
      beam_args: Beam's, see `beam.arguments`; the cache does not look at them.

    Returns:
      The summary, as written to `<root>/summary.json`.

    Raises:
      errors.UsageError: data or request log missing or unusable, or MLflow is asked for and not there.
      errors.WorkError: stopped by the gate, or a component failed.
    """
    tracking.check()  # before anything of the root is touched
    # One folder by two names, such as a link to it, is one root: artifacts are known by their paths.
    accepts = {"accept_drift": accept_drift, "accept_scores": accept_scores}
    return _run(recipe, os.path.realpath(root), source, span, accepts, console, request_log, beam_args)


def _run(recipe, root, source, span, accepts, console, request_log, beam_args) -> dict[str, Any]:
    start = _start(recipe)
    fingerprint = sources.fingerprint(source, recipe.data.layout, span)
    decides = {**dataclasses.asdict(recipe), "card": {}}  # another word on its card is no other run
    identity = json.dumps([decides, source, fingerprint, span])
    run_id = hashlib.sha256(identity.encode()).hexdigest()[:12]
    where = places(root, recipe.name)
    leftovers.clear(root, where)
    opened = sources.open_source(source, recipe.data.layout, recipe.data.camera_pattern, span)
    sides = division.divide(opened, where.registry, recipe.data.eval_fraction, recipe.data.seed).pin
    record = record_lib.Record(root, run_id, where, span, fingerprint, sides, recipe.data.window)
    summary_file = os.path.join(root, root_folder.SUMMARY_FILE)
    if os.path.exists(summary_file):  # it tells of the run before this one, whatever becomes of this one
        os.replace(summary_file, os.path.join(root, "summary.previous.json"))
    more = {**accepts, "start": start, **_gallery(recipe), **record.pins(request_log)}
    described = graph.Span(source, span, fingerprint, **more)
    with outcome.told(recipe, root, run_id=run_id, source=source, span=span, **accepts):
        account = record_lib.Account(record)
        done = _run_steps(recipe, root, where, described, record, account, console, beam_args)
        summary = {**summaries.summarise(recipe, span, run_id, where, done), "seconds": account.total()}
        delivered = []
        if summary["pushed_model"]:
            delivered = [summary["pushed_model"], os.path.join(summary["gallery"], str(summary["version"]))]
        files.write_json(summary_file, summary)
        record.finish(delivered)
    return summary


def _start(recipe: recipe_lib.Recipe) -> str:
    """The digest of the model that a training is to go on from, where the recipe names it by its folder."""
    asked = recipe.training.start_from
    return "" if asked in (config.SCRATCH, config.BLESSED) else starts.read(asked, recipe.model).digest


def _gallery(recipe: recipe_lib.Recipe) -> dict[str, str]:
    """Where the images of the pushed gallery are, and a digest of their files, where the recipe names a folder."""
    asked = recipe.evaluation.gallery
    if asked in component_config.GALLERIES:
        return {}
    place = sources.absolute(asked)
    return {"gallery": place, "gallery_listing": sources.fingerprint(place)}


def _run_steps(recipe, root, where, described, record, account, console, beam_args) -> dict[str, runner.StepResult]:
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=graph.pipeline_name(recipe.name),
        pipeline_root=os.path.join(root, root_folder.ARTIFACTS),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(root, root_folder.STORE)
        ),
        components=graph.build(recipe, where, described, recipe.name),
        enable_cache=True,
    )
    done: dict[str, runner.StepResult] = {}
    screen = console or rich.console.Console(stderr=True)
    with console_lib.Steps(screen) as steps, position_lib.watched(account.watch):

        def start(name: str, position: int, total: int) -> None:
            steps.start(name, position, total)
            account.start(name)

        def end(result: runner.StepResult) -> None:
            done[result.name] = result
            steps.end(result.name, result.seconds, result.cached)
            account.end(result.name, 0.0 if result.cached else result.seconds)
            if result.name == "DriftGate":
                record.accept(described.request_log, described.request_listing)

        try:
            runner.LocalRunner(start, end, beam.arguments(beam_args)).run(pipeline)
        finally:
            account.write()
    return done


def print_table(summary: dict[str, Any], root: str) -> None:
    """Prints what a run came to: scores by slice, blessing, seconds, and where things are."""
    console = console_lib.out()
    _print_scores(summary, console)
    examples, classes = summary["examples"], summary["classes"]
    window = summary["window"]
    spans = f" (spans {', '.join(map(str, window))})" if len(window) > 1 else ""
    console.print(
        f"trained on {examples['trained_on']} images of {classes['train']} identities{spans}, "
        f"scored on {examples['eval']} of {classes['eval']} others; "
        f"{examples['quarantined']} files quarantined, {examples['ignored']} ignored"
    )
    if summary["start"]:
        _print_start(summary["start"], console)
    if summary["tail_health"]:
        _print_health(summary["tail_health"], summary["head_threshold"], console)
    steps = "  ".join(f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items() if seconds)
    console.print(f"seconds: {steps or 'all cached'}", soft_wrap=True)
    if summary["blessed"]:
        console.print(f"blessed; pushed {errors.shown(summary['pushed_model'])}", soft_wrap=True, markup=False)
        served = summary["served"]
        if served["version"] != summary["version"]:
            console.print(
                f"this is version {summary['version']}, of span {summary['span']}; served is the highest, version "
                f"{served['version']}, of span {served['span']}",
                soft_wrap=True,
            )
    if examples["quarantined"] or examples["ignored"]:
        listed = errors.shown(os.path.join(summary["artifacts"]["quarantine"], "quarantine.jsonl"))
        console.print(f"set aside, and why: {listed}, and ignored.jsonl there", soft_wrap=True, markup=False)
    summary_file = errors.shown(os.path.join(root, root_folder.SUMMARY_FILE))
    console.print(f"summary {summary_file}", soft_wrap=True, markup=False)
    page = os.path.join(root, root_folder.REPORT_FILE)
    if os.path.exists(page):
        console.print(f"report {errors.shown(page)}", soft_wrap=True, markup=False)
    if summary["pushed_model"]:
        console.print(f"serve it: {serve_command(summary)}", soft_wrap=True, markup=False)


def _print_scores(summary: dict[str, Any], console: rich.console.Console) -> None:
    """Prints every metric over all held-out identities, of head and tail, of each span, pixels and the last blessed.

    Where all identities are of one kind, it is no row of its own.
    """
    scores, rule = summary["metrics"], head_tail.rule(summary["head_threshold"], "held-out identities")
    slices = {name: scores[name] for name in ("head", "tail") if scores[name]["queries"]}
    if len(slices) == 1:
        rule += f"; all that are scored are {next(iter(slices))} by this rule"
        slices = {}
    table = rich.table.Table("", *(each.title for each in metric.METRICS), "queries")
    spans = {f"span {one['span']}": one["candidate"] for one in summary["by_span"]}
    last = {"pixels": scores["pixels"], "baseline": summary["baseline"]}
    for name, row in {"all": scores, **slices, **spans, **last}.items():
        if row:
            figures = (each.show(row[each.name]) for each in metric.METRICS)
            table.add_row(name, *figures, str(row["queries"]))
    console.print(table)
    console.print(f"protocol {summary['protocol']}; {rule}")
    if scores["pixels"]:
        console.print(f"pixels: {scores['pixels']['embedding']}, an embedding that nobody trained")
    for line in summary["warnings"]:
        console.print(f"warning: {line}", soft_wrap=True)


def _print_start(start: dict[str, Any], console: rich.console.Console) -> None:
    """Prints which model the training went on from."""
    where = start["from"] if start["version"] is None else f"version {start['version']}"
    known = f"which knew {start['known_identities']} of these identities"
    said = f"went on from {errors.shown(where)}, {known}, for {start['epochs']} epochs"
    console.print(said, soft_wrap=True, markup=False)


def _print_health(health: dict[str, Any], head_threshold: int, console: rich.console.Console) -> None:
    """Prints how training left its head and tail classes: only what is known of either."""
    groups = {name: health[name] for name in ("head", "tail") if name in health}
    shown = [column for column in _HEALTH if any(column[1] in group for group in groups.values())]
    table = rich.table.Table("tail health", *(title for title, *_ in shown))
    for name, group in groups.items():
        table.add_row(name, *(f"{group[key]:.{digits}f}" if key in group else "-" for _, key, digits in shown))
    console.print(table)
    console.print(head_tail.rule(head_threshold, "trained identities"))
    if "samples_with_cloud" in health:
        console.print(f"{100 * health['samples_with_cloud']:.1f}% of the last epoch's samples had a cloud")


def serve_command(summary: dict[str, Any]) -> str:
    """The command that serves what a run pushed."""
    model = os.path.dirname(summary["pushed_model"])
    return shlex.join(["longtail", "serve", "--model", model, "--gallery", summary["gallery"]])

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
from tfx.utils import path_utils

from longtail.components.baseline_finder import component as baseline_finder
from longtail.components.data import sources
from longtail.components.serving_skew import requests
from longtail.models import files
from longtail.models.export import signatures
from longtail.pipeline import beam
from longtail.pipeline import console as console_lib
from longtail.pipeline import graph
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.local import runner

log = logging.getLogger("longtail")

SUMMARY_FILE = "summary.json"

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
        registry=os.path.join(root, root_folder.REGISTRY, model_name),
        models=os.path.join(root, "models", model_name),
        galleries=os.path.join(root, "galleries", model_name),
        checkpoints=os.path.join(root, "checkpoints"),
    )


class _Record:
    """What a run pinned when it first started, so that running it again is the same run.

    The baselines are looked up once: a resumed run compares with what it first compared with, whatever was accepted
    or pushed since, and finds all its finished components in the cache. A run that failed before its training, at the
    gate or at a baseline that cannot be read, looks anew; and what a finished run pushed is pushed again if it is gone.
    A request log that grew since the gate passed it is not read again by a run that was cut: the server goes on writing
    meanwhile. A finished run reads it anew.
    """

    def __init__(self, root: str, run_id: str, where: graph.Places, span: int, fingerprint: str):
        self._path = os.path.join(root, "records", f"{run_id}.json")
        content = root_folder.read_json(self._path)
        if content is None or not content["accepted"]:
            content = {
                "accepted": False,
                "delivery": 0,
                "delivered": [],
                "pinned_span": baseline_finder.pin_span(where.registry, span, fingerprint),
                "pinned_version": baseline_finder.pin(baseline_finder.last_version(where.models)),
            }
        if not all(os.path.exists(path) for path in content["delivered"]):
            log.info("what this run pushed is no longer there; it is pushed again")
            content |= {"delivery": content["delivery"] + 1, "delivered": []}
        self._content = content
        files.write_json(self._path, content)

    def pins(self, request_log: str) -> dict[str, Any]:
        """What decides the run beside its data and recipe: fields of `graph.Span`.

        Raises:
          errors.UsageError: there is nothing in the request log.
        """
        pinned = {key: self._content[key] for key in ("pinned_span", "pinned_version", "delivery")}
        cut = self._content["accepted"] and not self._content["delivered"]
        listing = self._content.get("requests", {}).get(request_log) if cut else None
        return {
            **pinned,
            "request_log": request_log,
            "request_listing": requests.listing(request_log) if listing is None else listing,
        }

    def accept(self, request_log: str, listing: str) -> None:
        """Marks that the gate let the run pass: from now on its pins stay."""
        self._content |= {"accepted": True, "requests": {request_log: listing}}
        files.write_json(self._path, self._content)

    def deliver(self, paths: list[str]) -> None:
        """Notes what the finished run pushed."""
        self._content["delivered"] = paths
        files.write_json(self._path, self._content)


def run(
    recipe: recipe_lib.Recipe,
    root: str,
    source: str,
    span: int = 1,
    accept_drift: str = "",
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
      console: where to say what happens; standard error where None.
      request_log: folder of what serving was asked about, to be compared with what is trained on; "" for none.
      beam_args: Beam's, see `beam.arguments`; the cache does not look at them.

    Returns:
      The summary, as written to `<root>/summary.json`.

    Raises:
      errors.UsageError: data or request log missing or unusable.
      errors.WorkError: stopped by the gate, or a component failed.
    """
    return _run(recipe, os.path.abspath(root), source, span, accept_drift, console, request_log, beam_args)


def _run(recipe, root, source, span, accept_drift, console, request_log, beam_args) -> dict[str, Any]:
    fingerprint = sources.fingerprint(source, recipe.data.layout, span)
    identity = json.dumps([dataclasses.asdict(recipe), source, fingerprint, span])
    run_id = hashlib.sha256(identity.encode()).hexdigest()[:12]
    where = places(root, recipe.name)
    record = _Record(root, run_id, where, span, fingerprint)
    summary_file = os.path.join(root, SUMMARY_FILE)
    if os.path.exists(summary_file):  # it tells of the run before this one, whatever becomes of this one
        os.replace(summary_file, os.path.join(root, "summary.previous.json"))
    described = graph.Span(source, span, fingerprint, accept_drift=accept_drift, **record.pins(request_log))
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=graph.pipeline_name(recipe.name),
        pipeline_root=os.path.join(root, "artifacts"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(root, "metadata.sqlite")
        ),
        components=graph.build(recipe, where, described, recipe.name),
        enable_cache=True,
    )
    done: dict[str, runner.StepResult] = {}
    with console_lib.Steps(console or rich.console.Console(stderr=True)) as steps:

        def end(result: runner.StepResult) -> None:
            done[result.name] = result
            steps.end(result.name, result.seconds, result.cached)
            if result.name == "DriftGate":
                record.accept(request_log, described.request_listing)

        runner.LocalRunner(steps.start, end, beam.arguments(beam_args)).run(pipeline)
    summary = _summarise(recipe, run_id, where, done)
    if summary["pushed_model"]:
        version = os.path.basename(summary["pushed_model"])
        record.deliver([summary["pushed_model"], os.path.join(summary["gallery"], version)])
    files.write_json(summary_file, summary)
    return summary


def _summarise(recipe, run_id, where, done) -> dict[str, Any]:
    def whole(step, output, key):
        return done[step].outputs[output].custom_properties[key].int_value

    def text(step, output, key):
        return done[step].outputs[output].custom_properties[key].string_value

    scored = root_folder.read_json(os.path.join(done["RetrievalEvaluator"].outputs["evaluation"].uri, "metrics.json"))
    pushed = whole("Pusher", "pushed_model", "pushed") == 1
    trained = path_utils.serving_model_path(done["Trainer"].outputs["model"].uri)
    card = root_folder.read_json(os.path.join(trained, signatures.MODEL_CARD_FILE))
    blessing = root_folder.read_json(os.path.join(done["DriftGate"].outputs["blessing"].uri, "blessing.json"))
    census = root_folder.read_json(os.path.join(done["Rebalancer"].outputs["census"].uri, "census.json"))
    return {
        "recipe": recipe.name,
        "run_id": run_id,
        "metrics": scored["candidate"],
        "baseline": scored["baseline"],
        "blessed": whole("RetrievalEvaluator", "blessing", "blessed") == 1,
        "reason": text("RetrievalEvaluator", "blessing", "reason"),
        "pushed_model": text("Pusher", "pushed_model", "pushed_destination") if pushed else None,
        "gallery": where.galleries if pushed else None,
        "examples": {
            "train": whole("ImageExampleGen", "examples", "train_images"),
            "trained_on": census["rows"],
            "eval": whole("ImageExampleGen", "examples", "eval_images"),
            "quarantined": whole("ImageExampleGen", "examples", "quarantined"),
        },
        "classes": {
            "train": len(census["classes"]),
            "eval": whole("ImageExampleGen", "examples", "eval_identities"),
        },
        "tail_health": card.get("tail_health"),
        "anomalies": _anomalies(blessing),
        "accept_drift": blessing["accept_drift"],
        "artifacts": {"examples": done["ImageExampleGen"].outputs["examples"].uri},
        "seconds": {name: 0.0 if step.cached else round(step.seconds, 2) for name, step in done.items()},
        "cached": [name for name, step in done.items() if step.cached],
    }


def _anomalies(blessing: dict[str, Any]) -> list[Any]:
    """What the gate saw of this span and let pass: breaches of the schema, and drift accepted for a reason."""
    return [*blessing["schema"], *(row for row in blessing["features"] if row["verdict"] != "ok")]


def print_table(summary: dict[str, Any], root: str) -> None:
    """Prints what a run came to: scores by slice, blessing, seconds, and where things are."""
    console = console_lib.out()
    scores = summary["metrics"]
    table = rich.table.Table("", "mAP", "Rank-1", "Rank-5", "Rank-10", "mINP", "queries")
    slices = {"all": scores, "head": scores["head"], "tail": scores["tail"], "baseline": summary["baseline"]}
    for name, row in slices.items():
        if row and row["queries"]:
            figures = (row[key] for key in ("mAP", "rank1", "rank5", "rank10", "mINP"))
            table.add_row(name, *(f"{100 * figure:.2f}" for figure in figures), str(row["queries"]))
    console.print(table)
    examples, classes = summary["examples"], summary["classes"]
    console.print(
        f"trained on {examples['trained_on']} images of {classes['train']} identities, scored on {examples['eval']} "
        f"of {classes['eval']} others; {examples['quarantined']} files quarantined"
    )
    if summary["tail_health"]:
        _print_health(summary["tail_health"], console)
    steps = "  ".join(f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items() if seconds)
    console.print(f"seconds: {steps or 'all cached'}", soft_wrap=True)
    if summary["blessed"]:
        console.print(f"blessed; pushed {summary['pushed_model']}", soft_wrap=True, markup=False)
    console.print(f"summary {os.path.join(root, SUMMARY_FILE)}", soft_wrap=True, markup=False)
    if summary["pushed_model"]:
        console.print(f"serve it: {serve_command(summary)}", soft_wrap=True, markup=False)


def _print_health(health: dict[str, Any], console: rich.console.Console) -> None:
    """Prints how training left its head and tail classes: only what is known of either."""
    groups = {name: health[name] for name in ("head", "tail") if name in health}
    shown = [column for column in _HEALTH if any(column[1] in group for group in groups.values())]
    table = rich.table.Table("tail health", *(title for title, *_ in shown))
    for name, group in groups.items():
        table.add_row(name, *(f"{group[key]:.{digits}f}" if key in group else "-" for _, key, digits in shown))
    console.print(table)
    if "samples_with_cloud" in health:
        console.print(f"{100 * health['samples_with_cloud']:.1f}% of the last epoch's samples had a cloud")


def serve_command(summary: dict[str, Any]) -> str:
    """The command that serves what a run pushed."""
    model = os.path.dirname(summary["pushed_model"])
    return shlex.join(["longtail", "serve", "--model", model, "--gallery", summary["gallery"]])

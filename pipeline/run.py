"""The main job: one span of images from folder to served model, resumable, with a record and a summary."""

import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator
from typing import Any

from tfx import v1 as tfx

from components import sources
from components.baseline_finder import component as baseline_finder
from models import errors
from pipeline import console as console_lib
from pipeline import graph
from pipeline import local_runner
from pipeline import recipe as recipe_lib

log = logging.getLogger("longtail")

SUMMARY_FILE = "summary.json"
BEAM_ARGS = ("--direct_running_mode=in_memory", "--direct_num_workers=1")


def places(root: str, model_name: str) -> graph.Places:
    """Where a root keeps what outlives a run."""
    return graph.Places(
        registry=os.path.join(root, "registry", model_name),
        models=os.path.join(root, "models", model_name),
        galleries=os.path.join(root, "galleries", model_name),
        checkpoints=os.path.join(root, "checkpoints"),
    )


@contextlib.contextmanager
def _hold(root: str) -> Iterator[None]:
    """Keeps a second run out of a root; the lock goes with the process, however it ends."""
    try:
        os.makedirs(root, exist_ok=True)
        file = open(os.path.join(root, ".lock"), "w", encoding="utf-8")
    except OSError as error:
        raise errors.UsageError(
            f"--root {root}: cannot be written ({error.strerror}); choose a folder of yours"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.UsageError(
                f"--root {root}: another run is at work there; wait for it or choose another root"
            ) from error
        yield


def _write_json(path: str, content: dict[str, Any]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    half = f"{path}.{uuid.uuid4().hex}.partial"
    with open(half, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
    os.replace(half, path)


def _read_json(path: str) -> dict[str, Any] | None:
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class _Record:
    """What a run pinned when it first started, so that running it again is the same run.

    The baselines are looked up once: a resumed run compares with what it first compared with, whatever was accepted
    or pushed since, and finds all its finished components in the cache. A run that the gate refused looks anew.
    """

    def __init__(self, root: str, run_id: str, where: graph.Places, span: int):
        self._path = os.path.join(root, "records", f"{run_id}.json")
        content = _read_json(self._path)
        if content is None or content["refused"]:
            content = {
                "refused": False,
                "pinned_span": baseline_finder.pin(baseline_finder.last_accepted(where.registry, span)),
                "pinned_version": baseline_finder.pin(baseline_finder.last_version(where.models)),
            }
            _write_json(self._path, content)
        self.pins = {key: content[key] for key in ("pinned_span", "pinned_version")}

    def refuse(self) -> None:
        """Marks that the gate stopped the run."""
        _write_json(self._path, {"refused": True, **self.pins})


def run(
    recipe: recipe_lib.Recipe,
    root: str,
    data: str | None = None,
    span: int = 1,
    accept_drift: str = "",
) -> dict[str, Any]:
    """Runs the whole pipeline on one span.

    Args:
      recipe: what to do.
      root: folder of everything the run writes; a run that was cut goes on there.
      data: where the images are; the recipe's own source where None.
      span: number of the span.
      accept_drift: reason to accept the span whatever the gate sees.

    Returns:
      The summary, as written to `<root>/summary.json`.

    Raises:
      errors.UsageError: data missing or unusable, a root that cannot be written.
      errors.WorkError: stopped by the gate, or a component failed.
    """
    root = os.path.abspath(root)
    data = data or recipe.data.source
    if not data:
        raise errors.UsageError(f"recipe {recipe.name!r} has no data of its own; give --data PATH")
    if span < 1:
        raise errors.UsageError(f"--span {span}: spans count from 1")
    source = _absolute(data)
    sources.open_source(source, recipe.data.layout, recipe.data.camera_pattern, span).listing()
    with _hold(root):
        log_file = os.path.join(root, "logs", f"run-{datetime.datetime.now():%Y%m%d-%H%M%S}.log")
        with console_lib.quiet(log_file) as console:
            console.print(f"recipe {recipe.name}, span {span}, {data} -> {root}", highlight=False)
            console.print(f"log {log_file}", highlight=False)
            return _run(recipe, root, source, span, accept_drift, console)


def _absolute(source: str) -> str:
    is_local = "://" not in source and not source.startswith("glyphs:")
    return os.path.abspath(source) if is_local else source


def _run(recipe, root, source, span, accept_drift, console) -> dict[str, Any]:
    fingerprint = sources.fingerprint(source, recipe.data.layout, span)
    identity = json.dumps([dataclasses.asdict(recipe), source, fingerprint, span])
    run_id = hashlib.sha256(identity.encode()).hexdigest()[:12]
    where = places(root, recipe.name)
    record = _Record(root, run_id, where, span)
    described = graph.Span(source, span, fingerprint, accept_drift=accept_drift, **record.pins)
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=f"longtail-{recipe.name.replace('_', '-')}",
        pipeline_root=os.path.join(root, "artifacts"),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(root, "metadata.sqlite")
        ),
        components=graph.build(recipe, where, described, recipe.name),
        enable_cache=True,
        beam_pipeline_args=list(BEAM_ARGS),
    )
    done: dict[str, local_runner.StepResult] = {}
    with console_lib.Steps(console) as steps:

        def end(result: local_runner.StepResult) -> None:
            done[result.name] = result
            steps.end(result.name, result.seconds, result.cached)

        try:
            local_runner.LocalRunner(steps.start, end).run(pipeline)
        except errors.WorkError:
            if "DriftGate" not in done and "DistributionValidator" in done:
                record.refuse()
            raise
    summary = _summarise(recipe, run_id, where, done)
    _write_json(os.path.join(root, SUMMARY_FILE), summary)
    return summary


def _summarise(recipe, run_id, where, done) -> dict[str, Any]:
    def whole(step, output, key):
        return done[step].outputs[output].custom_properties[key].int_value

    def text(step, output, key):
        return done[step].outputs[output].custom_properties[key].string_value

    scored = _read_json(os.path.join(done["RetrievalEvaluator"].outputs["evaluation"].uri, "metrics.json"))
    assert scored is not None
    pushed = whole("Pusher", "pushed_model", "pushed") == 1
    census = _read_json(os.path.join(done["Rebalancer"].outputs["census"].uri, "census.json"))
    assert census is not None
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
        "anomalies": _anomalies(where, done),
        "artifacts": {"examples": done["ImageExampleGen"].outputs["examples"].uri},
        "seconds": {name: 0.0 if step.cached else round(step.seconds, 2) for name, step in done.items()},
        "cached": [name for name, step in done.items() if step.cached],
    }


def _anomalies(where: graph.Places, done) -> list[Any]:
    """What the gate saw and let pass: findings of its report on this span."""
    span = done["ImageExampleGen"].outputs["examples"].properties["span"].int_value
    report = _read_json(os.path.join(where.registry, "drift", f"span-{span:08d}.json"))
    if report is None:
        return []
    return [finding for finding in report["findings"] if finding["verdict"] != "ok"]

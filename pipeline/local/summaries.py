"""What a finished run came to, put together from what its steps wrote: the content of `summary.json`."""

import os
from collections.abc import Mapping
from typing import Any

from tfx.utils import path_utils

from longtail.models.export import signatures
from longtail.models.export import versions
from longtail.pipeline import graph
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.local import runner


def summarise(
    recipe: recipe_lib.Recipe, span: int, run_id: str, where: graph.Places, done: Mapping[str, runner.StepResult]
) -> dict[str, Any]:
    """All but the seconds; `done` has every step by its name."""

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
        "span": span,
        "window": [one["span"] for one in census["spans"]],
        "run_id": run_id,
        "protocol": scored["protocol"],
        "head_threshold": scored["head_threshold"],
        "metrics": scored["candidate"],
        "baseline": scored["baseline"],
        "difference": scored["difference"],
        "by_span": scored["by_span"],
        "warnings": scored["warnings"],
        "blessed": whole("RetrievalEvaluator", "blessing", "blessed") == 1,
        "reason": text("RetrievalEvaluator", "blessing", "reason"),
        "pushed_model": text("Pusher", "pushed_model", "pushed_destination") if pushed else None,
        "version": int(text("Pusher", "pushed_model", "pushed_version")) if pushed else None,
        "served": _served(where.models),
        "gallery": where.galleries if pushed else None,
        "examples": {
            "train": whole("ImageExampleGen", "examples", "train_images"),
            "trained_on": card.get("images", census["rows"]),
            "eval": scored["candidate"]["images"],
            "quarantined": whole("ImageExampleGen", "examples", "quarantined"),
            "ignored": whole("ImageExampleGen", "examples", "ignored"),
        },
        "classes": {
            "train": len(census["classes"]),
            "eval": scored["held_out"],
        },
        "start": card["start"] | {"version": card.get("start_version")} if "start" in card else None,
        "tail_health": card.get("tail_health"),
        "anomalies": _anomalies(blessing),
        "accept_drift": blessing["accept_drift"],
        "accept_scores": scored["accept_scores"],
        "artifacts": {
            **{name: done["ImageExampleGen"].outputs[name].uri for name in ("examples", "quarantine")},
            "model_run": done["Trainer"].outputs["model_run"].uri,
        },
        "cached": [name for name, step in done.items() if step.cached],
    }


def _served(models: str) -> dict[str, Any] | None:
    """The version that servers take, the highest, and the span it was trained on: None where its card says none."""
    found = versions.find_complete(models)
    if not found:
        return None
    version, folder = next(iter(found.items()))
    card = root_folder.read_json(os.path.join(folder, signatures.MODEL_CARD_FILE)) or {}
    return {"version": version, "span": card.get("span")}


def _anomalies(blessing: dict[str, Any]) -> list[Any]:
    """What the gate saw of this span and let pass: breaches of the schema, and drift accepted for a reason."""
    return [*blessing["schema"], *(row for row in blessing["features"] if row["verdict"] != "ok")]

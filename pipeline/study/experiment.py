"""The papers' controlled experiment: each method trained on the same long-tailed carve, scored on unseen identities."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.components.data import sources
from longtail.models import errors
from longtail.models import files
from longtail.models import head_tail
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.metrics import angular
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval
from longtail.models.training import loop
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.study import carve
from longtail.pipeline.study import methods as methods_lib
from longtail.pipeline.study import table

log = logging.getLogger("longtail")

# Held-out identities are not divided into queries and gallery: whatever the recipe says, every image asks.
PROTOCOL = protocols.RETRIEVAL


def study(
    recipe: recipe_lib.Recipe,
    data: str,
    settings: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    json_path: str | None,
) -> dict[str, Any]:
    """Trains every method on every carve with every seed, and compares each addition with its plain head.

    A seed decides which identities are kept whole, which images the others keep, the initial weights and the order of
    batches; methods share all four, so their difference is paired. Finished trainings are written to `json_path` as
    they end, and not done again when the study is.

    Returns:
      What is written to `json_path` too: `key` (of recipe, data and metrics), `protocol`, `head_threshold`, `runs` (a
      mapping each) and `summary` (`table.summarise`'s rows).

    Raises:
      errors.UsageError: unknown method or setting, no data, a `json_path` of another study.
    """
    parsed = [methods_lib.parse(method, recipe.head) for method in methods]
    _check(recipe, data, settings, parsed, seeds)
    described = {**dataclasses.asdict(recipe), "summary": ""}
    fingerprint = sources.fingerprint(data, recipe.data.layout)
    measured = [each.name for each in metric.METRICS]
    key = hashlib.sha256(json.dumps([described, fingerprint, measured]).encode()).hexdigest()[:16]
    results: dict[str, Any] = {"key": key, "protocol": PROTOCOL.name, "head_threshold": recipe.leap.head_threshold}
    finished = _finished(json_path, key)

    def keep() -> None:
        results["runs"] = list(finished.values())
        results["summary"] = table.summarise(results["runs"], parsed)
        if json_path:
            files.write_json(json_path, results)

    keep()
    tf.get_logger().setLevel("ERROR")  # each training has functions of its own: nothing to warn of
    loaded = carve.Images.load(recipe, data)
    log.info("%d images, %d held out", len(loaded.encoded), int(loaded.held_out.sum()))
    runs = [(setting, method, seed) for seed in range(seeds) for setting in settings for method in parsed]
    for setting, method, seed in runs:
        run = (setting, method.name, seed)
        if run not in finished:
            log.info("%s %s seed %d", *run)
            finished[run] = _train_and_score(recipe, method, setting, seed, loaded)
            log.info("%s  %.0f s", metric.line(finished[run]), finished[run]["seconds"])
            keep()
    return results


def _check(recipe, data: str, settings: Sequence[str], methods: Sequence[methods_lib.Method], seeds: int) -> None:
    """Refuses what cannot be, before anything is read or trained."""
    recipe_lib.check(recipe)
    for method in methods:
        method.config(recipe, 0)
    for setting in settings:
        carve.parse(setting, recipe)
    if not data:
        raise errors.UsageError("--data: is empty; name a folder or .zip of images")
    if seeds < 1:
        raise errors.UsageError(f"--seeds {seeds}: at least 1")


def _finished(path: str | None, key: str) -> dict[tuple, dict[str, Any]]:
    found = root_folder.read_json(path) if path else None
    if found is None:
        return {}
    if not isinstance(found, dict) or found.get("key") != key:
        raise errors.UsageError(
            f"--json {path}: holds another study (recipe, data or metrics differ); name another file"
        )
    return {(run["setting"], run["method"], run["seed"]): run for run in found["runs"]}


def _train_and_score(recipe, method: methods_lib.Method, setting: str, seed: int, data: carve.Images) -> dict[str, Any]:
    training_set = data.carve(*carve.parse(setting, recipe), seed)
    config = method.config(recipe, seed)
    height, width, channels = config.model.image
    preprocess = preprocess_lib.Preprocess((height, width, channels), recipe.data.max_pixels)
    started = time.monotonic()
    classifier = loop.train(config, training_set, preprocess)
    seconds = time.monotonic() - started
    held_out = _embed(classifier, preprocess, data.encoded[data.held_out])
    names = data.identities[data.held_out]
    scores = retrieval.evaluate_retrieval(held_out, names, held_out, names, exclude_self=not PROTOCOL.divided)
    trained = _embed(classifier, preprocess, training_set.encoded)
    heads = np.flatnonzero(head_tail.is_head(training_set.counts, recipe.leap.head_threshold))
    spread = angular.angular_spread(trained, training_set.class_ids, heads.tolist())
    unseen = angular.angular_spread(held_out, names, set(names))
    return {
        "setting": setting,
        "method": method.name,
        "seed": seed,
        **{each.name: scores[each.name] for each in metric.METRICS},
        "head_variance": spread["head"]["variance"],
        "tail_variance": spread["tail"]["variance"],
        "held_out_variance": unseen["head"]["variance"],
        "images": len(training_set.encoded),
        "seconds": round(seconds, 1),
    }


def _embed(classifier: loop.Classifier, preprocess, encoded: np.ndarray) -> np.ndarray:
    embed = tf.function(
        lambda batch: classifier.embedder(preprocess(batch)[0], training=False),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    parts = [embed(tf.constant(encoded[i : i + 512])).numpy() for i in range(0, len(encoded), 512)]
    return np.concatenate(parts)

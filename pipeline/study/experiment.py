"""The papers' controlled experiment: each method trained on the same long-tailed carve, scored on unseen identities."""

import concurrent.futures
import dataclasses
import hashlib
import json
import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.components import config as components_config
from longtail.components.data import images
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.components.rebalancer import census
from longtail.components.rebalancer import rows
from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import files
from longtail.models import heads
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.metrics import angular
from longtail.models.metrics import retrieval
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder

log = logging.getLogger("longtail")

# CosFace and ArcFace as in LEAP's re-ID experiments (Liu et al., CVPR 2020, section 4.2). A head of another paper has
# the scale of the one it varies and a margin of that size: its own paper's are for a million faces.
_HEADS = {
    "softmax": config_lib.Head("softmax", 1.0, 0.0),
    "l2_softmax": config_lib.Head("l2_softmax", 24.0, 0.0),
    "normface": config_lib.Head("normface", 24.0, 0.0),
    "sphereface": config_lib.Head("sphereface", 24.0, 1.5),
    "cosface": config_lib.Head("cosface", 24.0, 0.2),
    "arcface": config_lib.Head("arcface", 16.0, 0.2),
    "subcentre_arcface": config_lib.Head("subcentre_arcface", 16.0, 0.2),
    "curricularface": config_lib.Head("curricularface", 16.0, 0.2),
    "adaface": config_lib.Head("adaface", 24.0, 0.2),
    "magface": config_lib.Head("magface", 16.0, 0.15, {"upper_margin": 0.45, "least_length": 5.0, "most_length": 55.0}),
    "ldam": config_lib.Head("ldam", 24.0, 0.3),
    "triplet": config_lib.Head("triplet", 1.0, 0.2),
}
# What may be added to a head, each with what it changes of the recipe.
_ADDED: dict[str, dict[str, dict[str, Any]]] = {
    "leap_v": {"leap": {"variant": "vanilla"}},
    "leap_f": {"leap": {"variant": "full"}},
    "class_balanced": {"loss": {"name": "class_balanced"}},
    "balanced_softmax": {"loss": {"name": "balanced_softmax"}},
    "centre": {"loss": {"centre_weight": 0.003}},
}
# The names the papers' tables have for some of them.
ALIASES = {
    "leap-cv": "cosface+leap_v",
    "leap-cf": "cosface+leap_f",
    "leap-av": "arcface+leap_v",
    "leap-af": "arcface+leap_f",
}
METHODS = (*_HEADS, *ALIASES)
# Images of an identity side by side in a batch, for triplets, where the recipe has no `training.images_per_class`.
_TRIPLET_IMAGES = 4
_SETTING = re.compile(r"H(\d+)S(\d+)$")
_TUNED = {"s": "scale", "m": "margin"}


@dataclasses.dataclass(frozen=True)
class Method:
    """A head and what is added to it. `name` is as written, e.g. "leap-cv" or "cosface+class_balanced:s=32"."""

    name: str
    head: config_lib.Head
    added: tuple[str, ...] = ()
    tuned: str = ""

    @property
    def plain(self) -> str:
        """Name of the same head without additions, the one a method is paired with."""
        return self.head.name + self.tuned

    def config(self, recipe: recipe_lib.Recipe, seed: int) -> config_lib.TrainConfig:
        """The recipe's training with this method's head, and of clouds and losses none but those it names.

        How a cloud or a loss that is named works (`leap.start_epoch`, `loss.beta`, ...) is the recipe's.

        Raises:
          errors.UsageError: the recipe's settings do not go with the method.
        """
        changes: dict[str, dict[str, Any]] = {
            "leap": {"variant": "none"},
            "loss": {"name": "cross_entropy", "centre_weight": 0.0},
            "training": {"seed": seed},
        }
        for name in self.added:
            for part, values in _ADDED[name].items():
                changes[part] |= values
        if "centre" in self.added and recipe.loss.centre_weight:
            changes["loss"]["centre_weight"] = recipe.loss.centre_weight
        if self.head.name == "triplet" and recipe.training.images_per_class < 2:
            changes["training"]["images_per_class"] = _TRIPLET_IMAGES
        parts = {part: dataclasses.replace(getattr(recipe, part), **values) for part, values in changes.items()}
        config = dataclasses.replace(recipe.train_config(), head=self.head, **parts)
        try:
            check.check(config)
        except errors.UsageError as error:
            raise errors.UsageError(f"--methods: {self.name}: {error}") from error
        return config


def parse_method(text: str, own: config_lib.Head) -> Method:
    """Reads "leap-cv", "adaface+leap_f" or, with another scale or margin, "leap-cv:s=32,m=0.3".

    A head that is the recipe's `own` has the recipe's scale and margin, any other those of `_HEADS`.

    Raises:
      errors.UsageError: unknown method or setting.
    """
    base, colon, tuned = text.partition(":")
    first, *added = base.split("+")
    head, *own_added = ALIASES.get(first, first).split("+")
    added = own_added + added
    unknown = [name for name in (head,) if name not in _HEADS] + [name for name in added if name not in _ADDED]
    if unknown:
        known = f"one of {', '.join(METHODS)}, with + and {', '.join(_ADDED)}"
        raise errors.UsageError(f"--methods: unknown {unknown[0]!r} in {text!r}; {known}")
    changed = [(part, key) for name in added for part, values in _ADDED[name].items() for key in values]
    if len(set(changed)) < len(changed):
        raise errors.UsageError(f"--methods: {text!r}: {' and '.join(added)} exclude each other; write one of them")
    changes: dict[str, Any] = {}
    start = own if own.name == head else _HEADS[head]
    for change in filter(None, tuned.split(",")):
        key, _, value = change.partition("=")
        if key not in _TUNED:
            raise errors.UsageError(f"--methods: {text!r}: write s=SCALE or m=MARGIN after the colon")
        try:
            changes[_TUNED[key]] = float(value)
        except ValueError as error:
            raise errors.UsageError(f"--methods: {text!r}: {value!r} is no number") from error
        if _TUNED[key] not in heads.HEADS[head].TUNED:
            raise errors.UsageError(f"--methods: {text!r}: {head} has no {_TUNED[key]}")
    return Method(text, dataclasses.replace(start, **changes), tuple(added), f"{colon}{tuned}")


def parse_setting(text: str) -> tuple[int, int]:
    """Reads "H100S4": 100 head identities keep all images, the others 4.

    Raises:
      errors.UsageError: another form, or no such carve.
    """
    match = _SETTING.match(text)
    if not match:
        raise errors.UsageError(f"--settings: {text!r} is not H<head identities>S<tail images>, e.g. H100S4")
    head, tail_images = int(match.group(1)), int(match.group(2))
    try:
        census.check(components_config.Rebalance(census.CARVE, head, tail_images))
    except errors.UsageError as error:
        raise errors.UsageError(f"--settings: {text}: {error}") from error
    return head, tail_images


@dataclasses.dataclass(frozen=True)
class _Images:
    """All usable images of a source: `encoded` object [N], and what goes with each."""

    encoded: np.ndarray
    paths: np.ndarray
    digests: np.ndarray
    identities: np.ndarray
    held_out: np.ndarray

    @classmethod
    def load(cls, recipe: recipe_lib.Recipe, data: str) -> "_Images":
        settings = recipe.data
        source = sources.open_source(data, settings.layout, settings.camera_pattern)
        items = source.items()
        identities = {item.identity for item in items}
        held_out = splits.held_out(identities, settings.eval_fraction, settings.seed)

        def read(item):
            try:
                found = source.read(item)
                return images.check(found, settings.max_pixels).encoded, hashlib.sha256(found).hexdigest()
            except (images.BadImage, sources.ReadError) as error:
                log.info("left out %s: %s", item.path, error)
                return None

        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = list(pool.map(read, items))
        kept = [(item, *pair) for item, pair in zip(items, found, strict=True) if pair]
        return cls(
            np.array([encoded for _, encoded, _ in kept], object),
            np.array([item.path for item, _, _ in kept]),
            np.array([digest for _, _, digest in kept]),
            np.array([item.identity for item, _, _ in kept]),
            np.array([item.identity in held_out for item, _, _ in kept]),
        )

    def carve(self, head: int, tail_images: int, seed: int) -> tuple[training_data.TrainingSet, set[int]]:
        """The training set of <H,S>, and the class ids of its head."""
        by_identity: dict[str, list[int]] = {}
        for row in np.flatnonzero(~self.held_out):
            by_identity.setdefault(self.identities[row], []).append(row)
        counts = {identity: (len(set(self.digests[group])), len(group)) for identity, group in by_identity.items()}
        plan = census.plan(counts, census.CARVE, head=head, tail_images=tail_images, seed=seed)
        classes = {one["identity"].encode(): (one["class_id"], one["images"], one["rows"]) for one in plan["classes"]}
        row_of = {(self.identities[row], self.paths[row]): row for row in np.flatnonzero(~self.held_out)}
        taken, labels = [], []
        for identity, group in sorted(by_identity.items()):
            files = [(self.paths[row].encode(), self.digests[row].encode()) for row in group]
            chosen = rows.choose((identity.encode(), files), {"classes": classes, "distinct": True}, seed)
            for (_, path, _), _ in chosen:
                taken.append(row_of[identity, path.decode()])
                labels.append(classes[identity.encode()][0])
        kept = np.array([one["images"] for one in plan["classes"]], np.int64)
        head_ids = {one["class_id"] for one in plan["classes"] if one["head"]}
        return training_data.TrainingSet(self.encoded[taken], np.array(labels, np.int64), kept), head_ids


def _embed(classifier: loop.Classifier, preprocess, encoded: np.ndarray) -> np.ndarray:
    embed = tf.function(
        lambda batch: classifier.embedder(preprocess(batch)[0], training=False),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    parts = [embed(tf.constant(encoded[i : i + 512])).numpy() for i in range(0, len(encoded), 512)]
    return np.concatenate(parts)


def _train_and_score(recipe, method: Method, setting: str, seed: int, data: _Images) -> dict[str, Any]:
    head, tail_images = parse_setting(setting)
    training_set, head_ids = data.carve(head, tail_images, seed)
    config = method.config(recipe, seed)
    height, width, channels = config.model.image
    preprocess = preprocess_lib.Preprocess((height, width, channels), recipe.data.max_pixels)
    started = time.monotonic()
    classifier = loop.train(config, training_set, preprocess)
    seconds = time.monotonic() - started
    held_out = _embed(classifier, preprocess, data.encoded[data.held_out])
    names = data.identities[data.held_out]
    scores = retrieval.evaluate_retrieval(held_out, names, held_out, names, exclude_self=True)
    trained = _embed(classifier, preprocess, training_set.encoded)
    spread = angular.angular_spread(trained, training_set.class_ids, head_ids)
    unseen = angular.angular_spread(held_out, names, set(names))
    return {
        "setting": setting,
        "method": method.name,
        "seed": seed,
        **{key: scores[key] for key in ("mAP", "rank1", "rank5", "rank10", "mINP")},
        "head_variance": spread["head"]["variance"],
        "tail_variance": spread["tail"]["variance"],
        "held_out_variance": unseen["head"]["variance"],
        "images": len(training_set.encoded),
        "seconds": round(seconds, 1),
    }


def study(
    recipe: recipe_lib.Recipe,
    data: str,
    settings: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    json_path: str | None,
) -> dict[str, Any]:
    """Trains every method on every carve with every seed, and compares each addition with its plain head.

    A seed decides which identities are the head, which images the tail keeps, the initial weights and the order of
    batches; methods share all four, so their difference is paired. Finished trainings are written to `json_path` as
    they end, and not done again when the study is.

    Raises:
      errors.UsageError: unknown method or setting, no data, a `json_path` of another study.
    """
    parsed = [parse_method(method, recipe.head) for method in methods]
    recipe_lib.check(recipe)
    for method in parsed:
        method.config(recipe, 0)
    for setting in settings:
        parse_setting(setting)
    if not data:
        raise errors.UsageError("--data: is empty; name a folder or .zip of images")
    if seeds < 1:
        raise errors.UsageError(f"--seeds {seeds}: at least 1")
    described = {**dataclasses.asdict(recipe), "summary": ""}
    fingerprint = sources.fingerprint(data, recipe.data.layout)
    key = hashlib.sha256(json.dumps([described, fingerprint]).encode()).hexdigest()[:16]
    finished = _finished(json_path, key)
    if json_path:
        files.write_json(json_path, {"key": key, "runs": list(finished.values())})
    tf.get_logger().setLevel("ERROR")  # each training has functions of its own: nothing to warn of
    loaded = _Images.load(recipe, data)
    log.info("%d images, %d held out", len(loaded.encoded), int(loaded.held_out.sum()))
    results: dict[str, Any] = {}
    for seed in range(seeds):
        for setting in settings:
            for method in parsed:
                run = (setting, method.name, seed)
                if run not in finished:
                    log.info("%s %s seed %d", *run)
                    finished[run] = _train_and_score(recipe, method, setting, seed, loaded)
                    log.info("mAP %.4f  %.0f s", finished[run]["mAP"], finished[run]["seconds"])
                results = {"key": key, "runs": list(finished.values())}
                results["summary"] = summarise(results["runs"], parsed)
                if json_path:
                    files.write_json(json_path, results)
    return results


def _finished(path: str | None, key: str) -> dict[tuple, dict[str, Any]]:
    found = root_folder.read_json(path) if path else None
    if found is None:
        return {}
    if not isinstance(found, dict) or found.get("key") != key:
        raise errors.UsageError(f"--json {path}: holds another study (recipe or data differ); name another file")
    return {(run["setting"], run["method"], run["seed"]): run for run in found["runs"]}


def summarise(runs: Sequence[dict[str, Any]], methods: Sequence[Method]) -> list[dict[str, Any]]:
    """One row a setting and method: means over seeds, and the paired difference to the plain head.

    `paired_mAP` is the mean over the seeds that both have of (method - plain head), `paired_spread` its standard
    error, None where there are fewer than two.
    """
    by_run = {(run["setting"], run["method"], run["seed"]): run for run in runs}
    table = []
    for setting in dict.fromkeys(run["setting"] for run in runs):
        for method in methods:
            own = [run for run in runs if run["setting"] == setting and run["method"] == method.name]
            if not own:
                continue
            differences = [
                run["mAP"] - by_run[setting, method.plain, run["seed"]]["mAP"]
                for run in own
                if method.plain != method.name and (setting, method.plain, run["seed"]) in by_run
            ]
            table.append({"setting": setting, "method": method.name, **_means(own, differences)})
    return table


def _means(own: Sequence[dict[str, Any]], differences: Sequence[float]) -> dict[str, Any]:
    def mean(name):
        return float(np.mean([run[name] for run in own]))

    def spread(values, divisor=1.0):
        return float(np.std(values, ddof=1)) / divisor if len(values) > 1 else None

    names = ("mAP", "rank1", "mINP", "head_variance", "tail_variance", "held_out_variance", "seconds")
    return {
        "seeds": len(own),
        **{name: mean(name) for name in names},
        "mAP_spread": spread([run["mAP"] for run in own]),
        "paired_mAP": float(np.mean(differences)) if differences else None,
        "paired_spread": spread(differences, np.sqrt(len(differences))) if differences else None,
    }

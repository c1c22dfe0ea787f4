"""One training of a study: a method on a carve with a seed, and what it scores."""

import logging
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.models import errors
from longtail.models import head_tail
from longtail.models import heads
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.feature_transfer import analysis
from longtail.models.feature_transfer import statistics
from longtail.models.metrics import angular
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import carve
from longtail.pipeline.study import methods as methods_lib
from longtail.pipeline.study import sides

log = logging.getLogger("longtail")


Embed = Callable[[np.ndarray], np.ndarray]


def validate(
    recipe: recipe_lib.Recipe, method: methods_lib.Method, setting: str, seed: int, data: carve.Images
) -> dict[str, Any]:
    """Trains and scores on the validation side alone: what settings are chosen by.

    Returns:
      Names, metrics and `seconds`; of a training that diverged metrics of 0 and `failed`, which says so.
    """
    try:
        embed, *_, seconds = _train(recipe, method, setting, seed, data)
    except errors.Diverged as error:
        log.warning("%s %s seed %d: %s; it counts as the worst", setting, method.name, seed, error)
        named = {"setting": setting, "method": method.name, "seed": seed, "seconds": 0.0, "failed": str(error)}
        return {**named, **{each.name: 0.0 for each in metric.METRICS}}
    validated = data.of(sides.VALIDATION)
    figures = metric.summarise(_ranked(recipe, embed(validated.encoded), validated))
    return _told(setting, method, seed, figures, seconds)


def report(
    recipe: recipe_lib.Recipe,
    method: methods_lib.Method,
    setting: str,
    seed: int,
    data: carve.Images,
    further: Mapping[str, carve.Images],
) -> dict[str, Any]:
    """Trains and scores on the test side and on further data.

    Returns:
      Beside names, metrics and `seconds`: `identity_mAP` and `identity_queries` (lists, an entry an identity in sorted
      order), variances, `closed` (`analysis.closed_set` of the training side's images that were not trained on),
      `images` (trained on), and in `further` metrics and lists of each further data.
    """
    embed, head, training_set, names, seconds = _train(recipe, method, setting, seed, data)
    tested = data.of(sides.TEST)
    embedded = embed(tested.encoded)
    figures, by_identity = _scores(recipe, embedded, tested)
    spread = angular.angular_spread(embedded, tested.identities, set(tested.identities))
    trained_on = embed(np.asarray(training_set.encoded))
    return {
        **_told(setting, method, seed, figures, seconds),
        **by_identity,
        **_variances(recipe, setting, trained_on, training_set),
        "closed": _closed(recipe, embed, head, trained_on, training_set, names, data),
        "test_variance": spread["head"]["variance"],
        "images": len(training_set.encoded),
        "further": {name: _further(recipe, embed, other) for name, other in further.items()},
    }


def _further(recipe, embed: Embed, other: carve.Images) -> dict[str, Any]:
    figures, by_identity = _scores(recipe, embed(other.encoded), other)
    return {**{each.name: figures[each.name] for each in metric.METRICS}, **by_identity}


def _closed(recipe, embed: Embed, head, trained_on, training_set, names, data: carve.Images) -> dict[str, Any]:
    """By the nearest centre of the images trained on and, where the head has class weights, by the classifier."""
    side = data.of(sides.TRAINING)
    known = set(training_set.encoded)
    others = np.array([image not in known for image in side.encoded], bool) & np.isin(side.identities, names)
    if not others.any():
        return {}
    class_ids = {name: class_id for class_id, name in enumerate(names)}
    labels = np.array([class_ids[name] for name in side.identities[others].tolist()])
    embedded = embed(side.encoded[others])
    centres = statistics.centres(trained_on, training_set.class_ids, len(training_set.counts))
    answers = {"nearest": analysis.nearest(embedded, centres)}
    if head.prototype_lengths() is not None:
        answers["classifier"] = head((tf.constant(embedded), labels)).numpy().argmax(axis=1)
    is_head = head_tail.is_head(training_set.counts, recipe.leap.head_threshold)
    return analysis.closed_set(answers, labels, is_head)


def _told(setting, method, seed, figures, seconds) -> dict[str, Any]:
    log.info("%s  %.0f s", metric.line(figures), seconds)
    named = {each.name: figures[each.name] for each in metric.METRICS}
    return {"setting": setting, "method": method.name, "seed": seed, **named, "seconds": round(seconds, 1)}


def _train(
    recipe, method, setting, seed, data
) -> tuple[Embed, heads.Head, training_data.TrainingSet, list[str], float]:
    config = method.config(recipe, seed)
    yaw_pattern = config.transfer.yaw_pattern if config.transfer.phases else ""
    carved, names = data.carve(carve.parse(setting, recipe), seed, recipe.rebalance.tail_cameras, yaw_pattern)
    training_set, _ = training_data.hold_out(carved, config)
    height, width, channels = config.model.image
    preprocess = preprocess_lib.Preprocess((height, width, channels), recipe.data.max_pixels)
    started = time.monotonic()
    classifier = loop.train(config, training_set, preprocess)
    seconds = time.monotonic() - started
    embed = tf.function(
        lambda batch: classifier.embedder(preprocess(batch)[0], training=False),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )

    def embed_all(encoded: np.ndarray) -> np.ndarray:
        return np.concatenate([embed(tf.constant(encoded[i : i + 512])).numpy() for i in range(0, len(encoded), 512)])

    return embed_all, classifier.head, training_set, names, seconds


def crosses_cameras(recipe: recipe_lib.Recipe) -> bool:
    """Whether images by a query's own camera are left out, as the recipe's protocol says.

    Identities of a side are not divided into queries and gallery: whatever the recipe says, every image asks.
    """
    return protocols.find(recipe.evaluation.protocol, "evaluation.protocol").cross_camera


def _ranked(recipe, embedded: np.ndarray, scored: carve.Images) -> metric.QueryScores:
    names = scored.identities.tolist()
    cameras = scored.cameras.tolist() if crosses_cameras(recipe) else None
    return retrieval.score_queries(
        embedded, names, embedded, names, query_cameras=cameras, gallery_cameras=cameras, exclude_self=True
    )


def _scores(recipe, embedded: np.ndarray, scored: carve.Images) -> tuple[dict[str, Any], dict[str, list]]:
    """The metrics, and of each identity that can be scored its mean average precision and its queries."""
    scores = _ranked(recipe, embedded, scored)
    precision = retrieval.identity_precision(scores)
    queries = np.bincount(scores.identity[scores.matches > 0], minlength=len(precision))
    asked = queries > 0
    by_identity = {
        "identity_mAP": [round(value, 6) for value in precision[asked].tolist()],
        "identity_queries": queries[asked].tolist(),
    }
    return metric.summarise(scores), by_identity


def _variances(recipe, setting, embedded, training_set: training_data.TrainingSet) -> dict[str, float | None]:
    """Of head and tail identities: with all their images, and with as many of each as the tail keeps."""
    tail_images = carve.parse(setting, recipe).tail_images
    of_head = np.flatnonzero(head_tail.is_head(training_set.counts, recipe.leap.head_threshold)).tolist()
    naive = angular.angular_spread(embedded, training_set.class_ids, of_head)
    equal = angular.equal_spread(embedded, training_set.class_ids, of_head, tail_images)
    return {
        "head_variance": naive["head"]["variance"],
        "tail_variance": naive["tail"]["variance"],
        "head_variance_equal_n": equal["head"]["variance"],
        "tail_variance_equal_n": equal["tail"]["variance"],
    }

"""What the drift gate saw of a span, gathered from a root's registry for a person to look at. Loads no TFX."""

import collections
import contextlib
import dataclasses
import os
import re
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.components import registry as registry_lib
from longtail.components.data import features
from longtail.components.data import images
from longtail.components.data import samples
from longtail.components.data import tables
from longtail.components.drift import histograms
from longtail.components.serving_skew import requests
from longtail.models import config
from longtail.models import errors
from longtail.pipeline.local import root_folder

ACCEPTED = ("accepted", "overridden")

_REPORT = re.compile(r"span-(\d{8,})\.json$")
_SHOWN_WORDS = 10
_SHOWN_IMAGES = 9
_LOOKED_AT = 500  # images of a request log
_TRAIN = features.TRAIN.decode()  # what is compared is the train split; the samples hold others beside it


@dataclasses.dataclass(frozen=True)
class Place:
    """A span that was judged: `registry` is the folder of its recipe's registry, `path` that of the report on it."""

    recipe: str
    registry: str
    span: int
    path: str


def find(root: str, recipe: str = "", span: int | None = None) -> Place:
    """The span to show: the one asked for, else the one that was judged last.

    Raises:
      errors.UsageError: there is no such root, or no such span was judged there.
    """
    if not os.path.isdir(root):
        raise errors.UsageError(f"{root}: no such folder; give the --root of a run")
    found = list(_judged(root))
    if not found:
        raise errors.UsageError(f"{root}: no span was judged there yet; `longtail run --root {root}` judges one")
    recipes = sorted({place.recipe for place in found})
    if recipe and recipe not in recipes:
        raise errors.UsageError(f"{root}: no span of recipe {recipe!r} was judged; there is {', '.join(recipes)}")
    found = [place for place in found if recipe in ("", place.recipe)]
    if span is None:
        return max(found, key=lambda place: (os.path.getmtime(place.path), place.span))
    of_span = [place for place in found if place.span == span]
    if not of_span:
        spans = ", ".join(str(number) for number in sorted({place.span for place in found}))
        raise errors.UsageError(f"{root}: span {span} was not judged; judged were {spans}")
    if len(of_span) > 1:
        raise errors.UsageError(f"{root}: span {span} of {', '.join(recipes)} was judged; choose one with --recipe")
    return of_span[0]


def _judged(root: str) -> Iterator[Place]:
    registries = os.path.join(root, root_folder.REGISTRY)
    for recipe in sorted(os.listdir(registries)) if os.path.isdir(registries) else []:
        folder = os.path.join(registries, recipe, "drift")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if match := _REPORT.match(name):
                registry = os.path.join(registries, recipe)
                yield Place(recipe, registry, int(match.group(1)), os.path.join(folder, name))


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image that can be shown, and what is known of it: feature -> number or word."""

    encoded: bytes
    path: str
    values: dict[str, Any]


class Side:
    """One of the two spans that were compared: numbers of its images, and some of them whole."""

    def __init__(self, span: int, folder: str):
        self.span = span
        self.table = samples.read_table(folder)
        records = tf.data.TFRecordDataset(os.path.join(folder, samples.SAMPLE_FILE), "GZIP").as_numpy_iterator()
        found = [tf.train.Example.FromString(record) for record in records]
        self.pictures = [_picture(example) for example in found if _word(example, features.SPLIT) == _TRAIN]
        names = {picture.values[features.IDENTITY] for picture in self.pictures}
        self._names = {int(samples.hash_of(name.encode(errors="surrogateescape"))): name for name in names}

    def numbers(self, feature: str) -> np.ndarray:
        """A number of each image; none where it is not kept."""
        if feature not in features.NUMBERS:
            return np.zeros(0)
        return self.table.values[:, tables.COLUMNS.index(feature)]

    def shares(self, feature: str) -> dict[str, float]:
        """Word -> its share of the images; empty where the feature is none of words."""
        if feature == features.FORMAT:
            jpeg = float(np.nanmean(self.table.values[:, tables.COLUMNS.index(feature)]))
            return {"jpeg": jpeg, "png": 1.0 - jpeg}
        if feature != features.IDENTITY:
            return {}
        keys, counts = np.unique(self.table.identity, return_counts=True)
        shares = (counts / counts.sum()).tolist()
        return {self._names.get(key, f"{key:016x}"): share for key, share in zip(keys.tolist(), shares, strict=True)}


def _picture(example: tf.train.Example) -> Picture:
    found = example.features.feature
    numbers = {key: (*found[key].float_list.value, *found[key].int64_list.value) for key in features.NUMBERS}
    values = {key: value[0] if value else float("nan") for key, value in numbers.items()}
    words = {key: _word(example, key) for key in (features.FORMAT, features.IDENTITY)}
    return Picture(found[features.ENCODED].bytes_list.value[0], _word(example, features.PATH), {**values, **words})


def _word(example: tf.train.Example, key: str) -> str:
    # Names of files need be no UTF-8; the page shows a question mark for what of them is none.
    return example.features.feature[key].bytes_list.value[0].decode(errors="surrogateescape")


@dataclasses.dataclass(frozen=True)
class View:
    """All that is shown of a span.

    Attributes:
      place: which span.
      report: the gate's, as it wrote it.
      history: the reports on all spans of the recipe, ascending by span.
      current: the span itself; None where what was judged is no longer kept.
      baseline: what it was compared with; None at a cold start, or where it is no longer kept.
      missing: a line on each side that should be there and is not.
    """

    place: Place
    report: dict[str, Any]
    history: list[dict[str, Any]]
    current: Side | None
    baseline: Side | None
    missing: list[str]


def load(place: Place) -> View:
    """Reads what is to be shown.

    Raises:
      errors.WorkError: a report is damaged.
    """
    root = os.path.dirname(os.path.dirname(place.registry))
    history = [root_folder.read_json(other.path) for other in _judged(root) if other.registry == place.registry]
    [report] = [one for one in history if one["span"] == place.span]
    registry, other, missing = place.registry, report["baseline_span"], list[str]()
    current = _side(place.span, lambda: registry_lib.kept_folder(registry, place.span, report["kept"]), missing)
    baseline = None
    if other == place.span and report["verdict"] in ACCEPTED:
        missing.append(f"what was accepted as span {other} before is no longer kept: this took its place")
    elif not report["cold_start"]:
        baseline = _side(other, lambda: registry_lib.accepted_folder(registry, other), missing)
    return View(place, report, sorted(history, key=lambda one: one["span"]), current, baseline, missing)


def _side(span: int, folder: Callable[[], str], missing: list[str]) -> Side | None:
    try:
        return Side(span, folder())
    except (errors.WorkError, *samples.UNREADABLE) as error:
        why = str(error).splitlines()[0]
        missing.append(f"what was kept of span {span} cannot be read, so only its distances are shown: {why}")
        return None


def histogram(view: View, row: dict[str, Any]) -> dict[str, Any] | None:
    """Both distributions of a row's feature, as `components.drift.histograms` says, or with `words` in place of `ends`.

    None where nothing was kept to draw them from.
    """
    if "histogram" in row:
        return row["histogram"]
    if view.current is None:
        return None
    numbers = [side.numbers(row["feature"]) if side else np.zeros(0) for side in (view.current, view.baseline)]
    if len(numbers[0]):
        return histograms.common(*numbers)
    words = [side.shares(row["feature"]) if side else {} for side in (view.current, view.baseline)]
    if not words[0]:
        return None
    changed = sorted(words[0].keys() | words[1].keys(), key=lambda word: (-_change(words, word), word))[:_SHOWN_WORDS]
    current, baseline = ([side.get(word, 0.0) for word in changed] for side in words)
    return {"words": changed, "current": current, "baseline": baseline}


def _change(words: list[dict[str, float]], word: str) -> float:
    return abs(words[0].get(word, 0.0) - words[1].get(word, 0.0))


def largest(view: View) -> dict[str, Any] | None:
    """The row farthest beyond its threshold, of those that sort images by what they look like; None without one."""
    kinds = ("skew",) if view.report["cold_start"] else ("drift", "skew")
    rows = [row for row in view.report["features"] if row.get("kind", "drift") in ("drift", "skew")]
    first = [row for row in rows if row.get("kind", "drift") in kinds]
    # A first span is compared with nothing; its images are shown all the same, by something.
    return next(iter([*first, *(row for row in rows if row["feature"] == features.BRIGHTNESS)]), None)


def sides(view: View, row: dict[str, Any]) -> list[tuple[str, list[Picture]]]:
    """Both sides' images at the extremes of a row's feature, each with the side's name: first what was compared with.

    Numbers: the lowest, some of the middle, and the highest. Words: those that the side has more of than the other.
    """
    feature = row["feature"]
    if row.get("kind") == "skew":
        training = view.current.pictures if view.current else []
        both = [("training", training), ("requests to serving", _requests(row["request_log"]))]
    else:
        both = [(f"span {side.span}", side.pictures) for side in (view.baseline, view.current) if side]
    if feature in (features.FORMAT, features.IDENTITY):
        words = [_shares(pictures, feature) for _, pictures in both]
        return [
            (name, _most_changed(pictures, feature, words[place], words[-1 - place]))
            for place, (name, pictures) in enumerate(both)
        ]
    return [(name, _extremes(pictures, feature)) for name, pictures in both]


def _extremes(pictures: list[Picture], feature: str) -> list[Picture]:
    ordered = sorted(pictures, key=lambda picture: (picture.values[feature], picture.path))
    if len(ordered) <= _SHOWN_IMAGES:
        return ordered
    each = _SHOWN_IMAGES // 3
    middle = (len(ordered) - each) // 2
    return [*ordered[:each], *ordered[middle : middle + each], *ordered[-each:]]


def _shares(pictures: list[Picture], feature: str) -> dict[str, float]:
    counts = collections.Counter(picture.values[feature] for picture in pictures)
    return {word: count / len(pictures) for word, count in counts.items()}


def _most_changed(
    pictures: list[Picture], feature: str, own: dict[str, float], other: dict[str, float]
) -> list[Picture]:
    def more(picture: Picture) -> float:
        word = picture.values[feature]
        return own[word] - other.get(word, 0.0)

    return sorted(pictures, key=lambda picture: (-more(picture), picture.path))[:_SHOWN_IMAGES]


def _requests(folder: str) -> list[Picture]:
    """Images of a request log, read where they lie, if they still do: nothing but the page holds them too."""
    found: list[Picture] = []
    try:
        paths = requests.files(folder)
    except errors.UsageError:
        return found
    for encoded in requests.images(paths, [], _LOOKED_AT):
        with contextlib.suppress(images.BadImage):
            values: dict[str, Any] = dict(requests.numbers(encoded, config.MAX_PIXELS))
            values[features.FORMAT] = "jpeg" if values[features.FORMAT] else "png"
            found.append(Picture(encoded, f"request {len(found) + 1}", values))
    return found

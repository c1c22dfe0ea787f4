"""The papers' controlled experiment: each method trained on the same long-tailed carve, scored on unseen identities."""

import collections
import dataclasses
import hashlib
import itertools
import json
import logging
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import sources
from longtail.components.rebalancer import census
from longtail.models import config
from longtail.models import errors
from longtail.models import files
from longtail.models.feature_transfer import statistics
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import root_folder
from longtail.pipeline.study import carve
from longtail.pipeline.study import methods as methods_lib
from longtail.pipeline.study import sides
from longtail.pipeline.study import table
from longtail.pipeline.study import trial
from longtail.pipeline.study import tuning

log = logging.getLogger("longtail")


def study(
    recipe: recipe_lib.Recipe,
    data: str,
    settings: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    json_path: str | None,
    tune: Sequence[str] = (),
    tune_seeds: int = 1,
    score: Sequence[str] = (),
    against: str | None = None,
) -> dict[str, Any]:
    """Trains every method on every carve with every seed, and compares each addition with plain heads.

    A seed decides which identities are kept whole, which images the others keep, the initial weights and the order of
    batches; methods share all four, so their difference is paired. With `tune` each method's options are first chosen
    on the validation side, with the seeds 0 to `tune_seeds` - 1; the test side is scored once, by what was chosen.
    Finished trainings are written to `json_path` as they end, and not done again when the study is.

    Returns:
      What is written to `json_path` too: `key` (of recipe, data and metrics), `protocol`, `head_threshold`, `sides`
      (identities of each), `tuning` (a mapping each training on the way to a choice), `chosen` (`tuning.choose`'s),
      `runs` (`trial.report`'s) and `summary` (`table.summarise`'s rows).

    Raises:
      errors.UsageError: unknown method, option or setting, no data, a `json_path` of another study.
      errors.WorkError: final trainings that diverged; all others are in the file.
    """
    parsed = [methods_lib.parse(method, recipe.head) for method in methods]
    if against and against not in (names := [method.name for method in parsed]):
        raise errors.UsageError(f"--against: no method {against!r} among --methods; one of {', '.join(names)}")
    grid = tuning.parse(tune)
    carves = _check(recipe, data, settings, parsed, seeds, grid, tune_seeds)
    source = _open(recipe, data, "--data")
    side_of = sides.divide({item.identity for item in source.items()}, recipe.data, recipe.study)
    crosses = trial.crosses_cameras(recipe)
    sides.check(source.items(), side_of, carves, crosses, recipe.rebalance.tail_cameras)
    trained = collections.Counter(item.identity for item in source.items() if side_of[item.identity] == sides.TRAINING)
    _check_clouds(recipe, parsed, max(trained.values()), carves)
    further = _further(recipe, score, side_of)
    among = {method.name: tuning.candidates(method, grid) for method in parsed}
    tuning.warn_of_budgets(among)
    header = _header(recipe, side_of, source, further)
    record = _Record(json_path, header, settings, parsed, among, tune_seeds, against)
    record.keep()
    loaded = carve.Images.load(source, side_of, recipe.data.max_pixels, "--data", crosses)
    _check_clouds(recipe, parsed, loaded.of(sides.TRAINING).most_images(), carves)
    others = {
        name: carve.Images.load(*opened, recipe.data.max_pixels, f"--score {name}", crosses)
        for name, opened in further.items()
    }
    log.info("%d images; identities: %s", len(loaded.encoded), record.header["sides"])
    tf.get_logger().setLevel("ERROR")  # each training has functions of its own: nothing to warn of
    _tune(recipe, loaded, record, _each(tune_seeds, settings, parsed))
    _report(recipe, loaded, others, record, _each(seeds, settings, parsed))
    return record.results()


def _tune(recipe, loaded: carve.Images, record: "_Record", each: Iterable[tuple]) -> None:
    for seed, setting, method in each:
        candidates = record.among[method.name]
        for candidate in candidates if len(candidates) > 1 else ():
            if record.is_missing(record.tuned, setting, candidate, seed):
                record.keep(record.tuned, trial.validate(recipe, candidate, setting, seed, loaded))


def _report(recipe, loaded: carve.Images, others: Mapping[str, carve.Images], record: "_Record", each) -> None:
    diverged = []
    for seed, setting, method in each:
        chosen = record.trained(setting, method)
        if record.is_missing(record.runs, setting, chosen, seed):
            try:
                record.keep(record.runs, trial.report(recipe, chosen, setting, seed, loaded, others))
            except errors.Diverged as error:
                diverged.append(f"{setting} {chosen.name} seed {seed}")
                log.warning("%s: %s; the study goes on with the others", diverged[-1], error)
    if diverged:
        raise errors.WorkError(
            f"--methods: {'; '.join(diverged)} diverged; all others are in --json: for a table run it without those"
        )


def _each(seeds: int, settings: Sequence[str], methods: Sequence[methods_lib.Method]) -> Iterable[tuple]:
    return ((seed, setting, method) for seed in range(seeds) for setting in settings for method in methods)


def _check(recipe, data, settings, methods, seeds, grid, tune_seeds) -> dict[str, carve.Setting]:
    """Refuses what cannot be, before any data is looked at; returns what each setting says."""
    recipe_lib.check(recipe)
    if len({method.name for method in methods}) < len(methods):
        raise errors.UsageError("--methods: a method stands twice")
    tuning.check(recipe, methods, grid)
    carves = {setting: carve.parse(setting, recipe) for setting in settings}
    if recipe.training.start_from != config.SCRATCH:
        raise errors.UsageError(
            "training.start_from: a study compares trainings from scratch, since a model may have met its test side; "
            "set it to scratch"
        )
    if not data:
        raise errors.UsageError("--data: is empty; name a folder or .zip of images")
    for name, number in (("--seeds", seeds), ("--tune-seeds", tune_seeds)):
        if number < 1:
            raise errors.UsageError(f"{name} {number}: at least 1")
    return carves


def _check_clouds(recipe, methods: Sequence[methods_lib.Method], largest: int, carves) -> None:
    """Refuses a cloud or a transfer without the classes it asks for; an identity has at most `largest` images."""
    for (setting, (head, tail_images, tail_classes)), method in itertools.product(carves.items(), methods):
        most, rest = largest if head else min(largest, tail_images), [] if tail_classes == 0 else [tail_images]
        plan = {"classes": [{"images": most}]}
        asked = method.config(recipe, 0)
        try:
            census.check_cloud(plan, asked.leap.variant, recipe.leap.head_threshold)
            if asked.transfer.variant != "none":
                statistics.check_classes([most, *rest], recipe.leap.head_threshold)
        except errors.UsageError as error:
            raise errors.UsageError(f"--methods: {method.name} on {setting}: {error}") from error


def _open(recipe: recipe_lib.Recipe, uri: str, where: str) -> base.Source:
    try:
        return sources.open_source(uri, recipe.data.layout, recipe.data.camera_pattern)
    except errors.UsageError as error:
        raise errors.UsageError(f"{where}: {error}") from error


def _further(recipe, score: Sequence[str], known: Mapping[str, str]) -> dict[str, tuple[base.Source, dict[str, str]]]:
    """name -> further data and the sides of its identities: those in `known` have none and are left out."""
    found = {}
    for name, uri in sides.parse_score(score).items():
        source = _open(recipe, uri, f"--score {name}")
        side_of, left_out = sides.unseen(source.items(), known, f"--score {name}", trial.crosses_cameras(recipe))
        if left_out:
            log.info("--score %s: %d identities are in --data too and are left out", name, left_out)
        found[name] = (source, side_of)
    return found


def _header(recipe, side_of: Mapping[str, str], source: base.Source, further) -> dict[str, Any]:
    """What is the same for all trainings of a study, and the key by which a file is known to be of it."""
    described = {**dataclasses.asdict(recipe), "summary": "", "card": {}}
    prints = [source.fingerprint(), {name: other.fingerprint() for name, (other, _) in further.items()}]
    measured = [each.name for each in metric.METRICS]
    names = list(side_of.values())
    return {
        "key": hashlib.sha256(json.dumps([described, prints, measured]).encode()).hexdigest()[:16],
        "protocol": (protocols.REID if trial.crosses_cameras(recipe) else protocols.RETRIEVAL).name,
        "head_threshold": recipe.leap.head_threshold,
        "sides": {side: names.count(side) for side in (sides.TRAINING, sides.VALIDATION, sides.TEST)},
    }


class _Record:
    """What of a study is finished, here and in its file."""

    def __init__(self, path, header, settings, methods, among, tune_seeds, against):
        self.header, self._against = header, against
        self._path, self._settings, self._methods = path, settings, methods
        self.among, self._tune_seeds = among, tune_seeds
        found = _read(path, header["key"])
        self.tuned = {_identity(run): run for run in found["tuning"]}
        self.runs = {_identity(run): run for run in found["runs"]}

    def is_missing(self, finished: Mapping[tuple, Any], setting: str, method: methods_lib.Method, seed: int) -> bool:
        missing = (setting, method.name, seed) not in finished
        if missing:
            log.info("%s %s seed %d", setting, method.name, seed)
        return missing

    def keep(self, finished: dict[tuple, Any] | None = None, run: dict[str, Any] | None = None) -> None:
        """Adds a training to those finished and writes the file."""
        if finished is not None and run is not None:
            finished[_identity(run)] = run
        if self._path:
            files.write_json(self._path, self.results())

    def chosen(self) -> list[dict[str, Any]]:
        found = [
            tuning.choose(setting, method, self.among[method.name], self._tune_seeds, self.tuned)
            for setting in self._settings
            for method in self._methods
        ]
        return [choice for choice in found if choice]

    def trained(self, setting: str, method: methods_lib.Method) -> methods_lib.Method:
        """The candidate that was chosen."""
        choice = tuning.choose(setting, method, self.among[method.name], self._tune_seeds, self.tuned)
        return next(each for each in self.among[method.name] if choice and each.name == choice["trained"])

    def results(self) -> dict[str, Any]:
        chosen, runs = self.chosen(), list(self.runs.values())
        named = {method.name: method for method in self._methods}
        summary = table.summarise(runs, chosen, named, self._against)
        return {
            **self.header, "tuning": list(self.tuned.values()), "chosen": chosen, "runs": runs, "summary": summary,
        }  # fmt: skip


def _identity(run: Mapping[str, Any]) -> tuple[str, str, int]:
    return run["setting"], run["method"], run["seed"]


def _read(path: str | None, key: str) -> dict[str, Any]:
    found = root_folder.read_json(path) if path else None
    if found is None:
        return {"tuning": [], "runs": []}
    if not isinstance(found, dict) or "key" not in found:
        raise errors.UsageError(f"--json {path}: holds something else than a study; name another file")
    if found["key"] != key:
        raise errors.UsageError(
            f"--json {path}: holds another study (recipe, data or metrics differ); name another file"
        )
    return found

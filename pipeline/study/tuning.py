"""Each method's settings, chosen on the validation side, every one by as many trainings as its own grid has."""

import itertools
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models.metrics import metric
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import methods as methods_lib

Runs = Mapping[tuple[str, str, int], Mapping[str, Any]]
CHOSEN_BY = metric.MEAN_AVERAGE_PRECISION


def parse(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Reads "s=6,8,12": option -> its values, each once.

    Raises:
      errors.UsageError: an unknown option, one that stands twice, or a value that it cannot have.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        where = f"--tune {text!r}"
        found = [methods_lib.option(f"{key}={value}", where)[1] for value in values.split(",")]
        if key in grid:
            raise errors.UsageError(f"{where}: {key} is given twice; write its values in one")
        grid[key] = list(dict.fromkeys(found))
    return grid


def candidates(method: methods_lib.Method, grid: Mapping[str, Sequence[Any]]) -> list[methods_lib.Method]:
    """The method at every combination of the options it has; one that it states itself stays as stated."""
    own = {key: values for key, values in grid.items() if method.takes(key) and key not in method.options}
    if not own:
        return [method]
    return [method.with_options(dict(zip(own, values, strict=True))) for values in itertools.product(*own.values())]


def check(recipe: recipe_lib.Recipe, methods: Sequence[methods_lib.Method], grid: Mapping[str, Sequence[Any]]) -> None:
    """Refuses what no method has, and a combination that cannot be.

    Raises:
      errors.UsageError: the option or the combination, and what is wrong.
    """
    for key in grid:
        if not any(method.takes(key) and key not in method.options for method in methods):
            raise errors.UsageError(f"--tune: no method has {key!r} left to choose; leave it out")
    if grid and not recipe.study.validation_fraction:
        raise errors.UsageError("--tune: study.validation_fraction is 0, so there is nobody to choose settings on")
    for method in methods:
        method.config(recipe, 0)
        for candidate in candidates(method, grid):
            candidate.config(recipe, 0, "--tune")


def choose(
    setting: str, method: methods_lib.Method, among: Sequence[methods_lib.Method], seeds: int, tuned: Runs
) -> dict[str, Any] | None:
    """What a method is trained with: the candidate of the highest mean mAP on the validation side, of equals the first.

    Args:
      setting: the carve.
      method: as asked for.
      among: its `candidates`.
      seeds: of each candidate's trainings.
      tuned: (setting, candidate's name, seed) -> its scores.

    Returns:
      `setting`, `method`, `trained` (the candidate's name), `values` (what was chosen), `trainings` and `validation`
      (each candidate's mean mAP); None while trainings are missing.
    """
    means: dict[str, float] = {}
    for candidate in among if len(among) > 1 else ():
        found = [tuned.get((setting, candidate.name, seed)) for seed in range(seeds)]
        if None in found:
            return None
        means[candidate.name] = float(np.mean([run[CHOSEN_BY.name] for run in found if run]))
    best = max(among, key=lambda candidate: means.get(candidate.name, 0.0))
    return {
        "setting": setting,
        "method": method.name,
        "trained": best.name,
        "values": {key: value for key, value in best.options.items() if key not in method.options},
        "trainings": len(means) * seeds,
        "validation": means,
    }

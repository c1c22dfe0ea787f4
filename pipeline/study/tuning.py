"""Each method's settings, chosen on the validation side, every one by as many trainings as its own grid has."""

import itertools
import logging
import re
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.models import errors
from longtail.models.metrics import metric
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import methods as methods_lib

log = logging.getLogger("longtail")

Runs = Mapping[tuple[str, str, int], Mapping[str, Any]]
CHOSEN_BY = metric.MEAN_AVERAGE_PRECISION


# A method's name, or "" for all of them, with the values of each option.
Grid = Mapping[str, Mapping[str, Sequence[Any]]]

_LINE = re.compile(r"(?:(?P<method>.+):)?(?P<key>\w+)=(?P<values>.*)")


def parse(texts: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """Reads "s=6,8,12", of every method, and "cosface+directional:strength=1,2", of that one alone.

    Raises:
      errors.UsageError: another form, an unknown option, one that stands twice, or a value that it cannot have.

    Example:
      >>> parse(["s=6,8", "cosface+directional:s=8", "cosface+directional:strength=1,2"])
      {'': {'s': [6.0, 8.0]}, 'cosface+directional': {'s': [8.0], 'strength': [1.0, 2.0]}}
    """
    grid: dict[str, dict[str, list[Any]]] = {}
    for text in texts:
        where, match = f"--tune {text!r}", _LINE.fullmatch(text)
        if not match:
            raise errors.UsageError(f"{where}: write KEY=VALUE,VALUE,... or METHOD:KEY=VALUE,VALUE,...")
        key, own = match["key"], grid.setdefault(match["method"] or "", {})
        found = [methods_lib.option(f"{key}={value}", where)[1] for value in match["values"].split(",")]
        if key in own:
            raise errors.UsageError(f"{where}: {key} is given twice; write its values in one")
        own[key] = list(dict.fromkeys(found))
    return grid


def candidates(method: methods_lib.Method, grid: Grid) -> list[methods_lib.Method]:
    """The method at every combination of the options it has; one that it states itself stays as stated.

    A line that names the method stands instead of that of the same option for all.
    """
    of_method = {**grid.get("", {}), **grid.get(method.name, {})}
    own = {key: values for key, values in of_method.items() if _is_open(method, key)}
    if not own:
        return [method]
    return [method.with_options(dict(zip(own, values, strict=True))) for values in itertools.product(*own.values())]


def _is_open(method: methods_lib.Method, key: str) -> bool:
    return method.takes(key) and key not in method.options


def check(recipe: recipe_lib.Recipe, methods: Sequence[methods_lib.Method], grid: Grid) -> None:
    """Refuses what no method has, and a combination that cannot be.

    Raises:
      errors.UsageError: the method, the option or the combination, and what is wrong.
    """
    for name, own in grid.items():
        meant = [method for method in methods if name in ("", method.name)]
        if not meant:
            raise errors.UsageError(f"--tune: {name!r} is not among --methods; write it as there")
        for key in own:
            if not any(_is_open(method, key) for method in meant):
                whose = f"{name} has no" if name else "no method has"
                raise errors.UsageError(f"--tune: {whose} {key!r} left to choose; leave it out")
    if grid and not recipe.study.validation_fraction:
        raise errors.UsageError("--tune: study.validation_fraction is 0, so there is nobody to choose settings on")
    for method in methods:
        method.config(recipe, 0)
        for candidate in candidates(method, grid):
            candidate.config(recipe, 0, "--tune")


def warn_of_budgets(among: Mapping[str, Sequence[methods_lib.Method]]) -> None:
    """Says where methods are not tuned with the same budget: of more candidates the best is better by chance too."""
    numbers = {name: len(candidates) for name, candidates in among.items()}
    if len(set(numbers.values())) > 1:
        told = ", ".join(f"{name} {number}" for name, number in numbers.items())
        log.warning("--tune: methods choose among different numbers of settings (%s): no equal budget", told)


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

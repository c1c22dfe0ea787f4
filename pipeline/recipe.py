"""A recipe: one YAML file that says everything about a run, read strictly into frozen dataclasses."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import yaml

from longtail.models import augment as augment_lib
from longtail.models import config
from longtail.models import errors
from longtail.models.metrics import protocols

_FOLDER = os.path.join(os.path.dirname(__file__), "recipes")


@dataclasses.dataclass(frozen=True)
class Data:
    """Where images come from and how they are divided. `source` stands in for --data where it is not given."""

    source: str = ""
    layout: str = "folder"
    camera_pattern: str = ""
    eval_fraction: float = 0.25
    query_fraction: float = 0.5
    seed: int = 0
    max_pixels: int = 33_177_600
    max_quarantine_fraction: float = 0.05


@dataclasses.dataclass(frozen=True)
class Drift:
    """Bounds of the schema and thresholds of the gate, by feature; what has none is calibrated to the spans' size.

    `sample` is how many images of a span are kept, half of them held out for embedding drift, half to be looked at.
    """

    bounds: dict[str, Any] = dataclasses.field(default_factory=dict)
    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    sample: int = 2000


@dataclasses.dataclass(frozen=True)
class Rebalance:
    """`strategy`: none, cap, repeat or carve (<H,S>: `head` classes keep all, the others `tail_images`)."""

    strategy: str = "none"
    head: int = 0
    tail_images: int = 0
    cap: int = 0
    repeat_to: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a model is scored, by a name of `protocols.PROTOCOLS`, and when it is blessed.

    `margin` is how far below the last blessed mAP it may be, `max_undecodable` which share of images it may refuse.
    """

    protocol: str = "query_gallery"
    floor_map: float = 0.0
    margin: float = 0.02
    max_undecodable: float = 0.05


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about a run but the data's place and the root."""

    name: str
    summary: str = ""
    data: Data = dataclasses.field(default_factory=Data)
    drift: Drift = dataclasses.field(default_factory=Drift)
    rebalance: Rebalance = dataclasses.field(default_factory=Rebalance)
    model: config.Model = dataclasses.field(default_factory=config.Model)
    head: config.Head = dataclasses.field(default_factory=config.Head)
    loss: config.Loss = dataclasses.field(default_factory=config.Loss)
    leap: config.Leap = dataclasses.field(default_factory=config.Leap)
    augment: augment_lib.Augmentation = dataclasses.field(default_factory=augment_lib.Augmentation)
    training: config.Training = dataclasses.field(default_factory=config.Training)
    evaluation: Evaluation = dataclasses.field(default_factory=Evaluation)

    def train_config(self) -> config.TrainConfig:
        """The part of the recipe that decides a training."""
        return config.TrainConfig(self.model, self.head, self.loss, self.leap, self.augment, self.training)


def names() -> list[str]:
    """Names of the recipes that come with longtail."""
    return sorted(file[: -len(".yaml")] for file in os.listdir(_FOLDER) if file.endswith(".yaml"))


def load(recipe: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe by name or by the path of a YAML file.

    Args:
      recipe: a name of `names()`, or a path ending in .yaml or .yml.
      overrides: `key.path=value`, the value in YAML, each replacing one value.

    Raises:
      errors.UsageError: no such recipe, YAML that does not parse, an unknown or ill-typed key.
    """
    path = recipe if recipe.endswith((".yaml", ".yml")) else os.path.join(_FOLDER, f"{recipe}.yaml")
    if not os.path.isfile(path):
        raise errors.UsageError(f"no recipe {recipe!r}; one of {', '.join(names())}, or a path to a .yaml file")
    with open(path, encoding="utf-8") as file:
        try:
            mapping = yaml.safe_load(file) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise errors.UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    where = os.path.basename(path)
    if not isinstance(mapping, dict):
        raise errors.UsageError(f"{where}: the file must be a mapping of keys, not {type(mapping).__name__}")
    mapping.setdefault("name", os.path.splitext(where)[0])
    for override in overrides:
        _override(mapping, override)
    return config.read(Recipe, mapping, where if not overrides else f"{where} with --set")


def check(recipe: Recipe) -> None:
    """Refuses what a recipe cannot ask for, before a run makes anything. Imports TensorFlow.

    Raises:
      errors.UsageError: the key, what it holds, and what it may hold.
    """
    from longtail.components.rebalancer import census
    from longtail.models import check as check_lib

    check_lib.check(recipe.train_config())
    rebalance = dataclasses.asdict(recipe.rebalance)
    rebalance.pop("seed")
    census.check(**rebalance)
    protocols.find(recipe.evaluation.protocol, "evaluation.protocol")
    _check_carve(recipe)


def _check_carve(recipe: Recipe) -> None:
    """Refuses a carve whose tail would be head by the run's threshold."""
    most, threshold = recipe.rebalance.tail_images, recipe.leap.head_threshold
    if recipe.rebalance.strategy == "carve" and most > threshold:
        raise errors.UsageError(
            f"rebalance.tail_images: {most} is more than leap.head_threshold={threshold}, so the carve's tail would be "
            "head; lower it, or raise leap.head_threshold"
        )


def _override(mapping: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise errors.UsageError(f"--set {override!r}: write it as key.path=value, e.g. head.scale=16")
    *parents, last = key.split(".")
    for parent in parents:
        mapping = mapping.setdefault(parent, {})
        if not isinstance(mapping, dict):
            raise errors.UsageError(f"--set {override!r}: {parent} holds a value, not keys")
    try:
        mapping[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise errors.UsageError(f"--set {override!r}: the value is not YAML") from error

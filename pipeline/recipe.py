"""A recipe: one YAML file that says everything about a run, read strictly into frozen dataclasses and checked."""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import yaml

from longtail.components import config as components_config
from longtail.components.data import layouts
from longtail.models import config
from longtail.models import errors
from longtail.models import settings

_FOLDER = os.path.join(os.path.dirname(__file__), "recipes")
PIPELINE_PREFIX = "longtail-"
# It names folders, the pipeline and the model.
_NAME = settings.Text(
    "letters, digits, '.', '_' and '-', the first a letter or digit, at most 100", r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about a run but the data's place and the root."""

    name: str = dataclasses.field(metadata={"allowed": _NAME, "doc": "of the model and its folders; the file's"})
    summary: str = settings.text("", "what it is, in a line")
    data: components_config.Data = dataclasses.field(default_factory=components_config.Data)
    drift: components_config.Drift = dataclasses.field(default_factory=components_config.Drift)
    rebalance: components_config.Rebalance = dataclasses.field(default_factory=components_config.Rebalance)
    model: config.Model = dataclasses.field(default_factory=config.Model)
    head: config.Head = dataclasses.field(default_factory=config.Head)
    loss: config.Loss = dataclasses.field(default_factory=config.Loss)
    leap: config.Leap = dataclasses.field(default_factory=config.Leap)
    transfer: config.Transfer = dataclasses.field(default_factory=config.Transfer)
    augment: config.Augmentation = dataclasses.field(default_factory=config.Augmentation)
    training: config.Training = dataclasses.field(default_factory=config.Training)
    evaluation: components_config.Evaluation = dataclasses.field(default_factory=components_config.Evaluation)
    card: components_config.Card = dataclasses.field(default_factory=components_config.Card)
    study: components_config.Study = dataclasses.field(default_factory=components_config.Study)

    def train_config(self) -> config.TrainConfig:
        """The part of the recipe that decides a training."""
        parts = (field.name for field in dataclasses.fields(config.TrainConfig))
        return config.TrainConfig(**{part: getattr(self, part) for part in parts})


def names() -> list[str]:
    """Names of the recipes that come with longtail."""
    return sorted(file[: -len(".yaml")] for file in os.listdir(_FOLDER) if file.endswith(".yaml"))


def load(recipe: str, overrides: Sequence[str] = (), files: bool = True) -> Recipe:
    """Reads a recipe by name or by the path of a YAML file, and checks it. Imports TensorFlow.

    Args:
      recipe: a name of `names()`, or a path ending in .yaml or .yml.
      overrides: `key.path=value`, the value in YAML, each replacing one value.
      files: whether the files it names must be here; not for a recipe that other machines run.

    Raises:
      errors.UsageError: no such recipe, YAML that does not parse, a key that is unknown, or a value that cannot be.
    """
    where, mapping = _mapping(recipe, overrides)
    where = f"{where} with --set" if overrides else where
    loaded = settings.read(Recipe, mapping, where)
    try:
        check(loaded, files)
    except errors.UsageError as error:
        raise errors.UsageError(f"{where}: {error}") from error
    return loaded


def check(recipe: Recipe, files: bool = True) -> None:
    """Refuses what a recipe cannot ask for, before anything is read or made. Imports TensorFlow.

    Raises:
      errors.UsageError: the key, what it may hold, and what it holds.
    """
    from longtail.components.curated_schema import content
    from longtail.components.rebalancer import census
    from longtail.models import check as check_lib

    settings.check(recipe, check_lib.RULES)
    check_lib.check_together(recipe.train_config(), files)
    census.check(recipe.rebalance)
    components_config.check_tail(recipe.rebalance, recipe.leap.head_threshold)
    if recipe.training.held_out and recipe.rebalance.strategy == "repeat":
        raise errors.UsageError(
            "training.held_out: with rebalance.strategy repeat, copies of a held-out image would be trained on; "
            "set it to 0, or take another strategy"
        )
    try:
        layouts.check(recipe.data.layout, recipe.data.camera_pattern)
    except errors.UsageError as error:
        raise errors.UsageError(f"data.{error}") from error
    layouts.check_pattern("study.group_pattern", recipe.study.group_pattern, "around the group's name")
    layouts.check_pattern("transfer.yaw_pattern", recipe.transfer.yaw_pattern, "around degrees")
    content.domains(recipe.drift.bounds)


def origins(recipe: str, overrides: Sequence[str] = ()) -> dict[str, str]:
    """Where each value comes from: key path -> "default", "file" or "--set". Arguments are those of `load`."""
    where, mapping = _mapping(recipe, overrides)
    asked = [override.partition("=")[0] for override in overrides]
    found = {}
    for one in settings.walk(settings.read(Recipe, mapping, where)):
        if not _holds(mapping, one.key):
            found[one.key] = "default"
        else:
            is_set = any(f"{one.key}.".startswith(f"{key}.") or key.startswith(f"{one.key}.") for key in asked)
            found[one.key] = "--set" if is_set else "file"
    return found


def _holds(mapping: Any, key: str) -> bool:
    for part in key.split("."):
        if part not in mapping:
            return False
        mapping = mapping[part]
    return True


class _Loader(yaml.SafeLoader):
    """YAML whose floats are those of YAML 1.2, 1e-3 among them, and that has each key once."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _parse(text: Any) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def _mapping(recipe: str, overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The name of a recipe's file, and what it says with the overrides."""
    path = recipe if recipe.endswith((".yaml", ".yml")) else os.path.join(_FOLDER, f"{recipe}.yaml")
    if not os.path.isfile(path):
        raise errors.UsageError(f"no recipe {recipe!r}; one of {', '.join(names())}, or a path to a .yaml file")
    try:
        with open(path, encoding="utf-8") as file:
            mapping = _parse(file) or {}
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise errors.UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    where = os.path.basename(path)
    if not isinstance(mapping, dict):
        raise errors.UsageError(f"{where}: the file must be a mapping of keys, not {type(mapping).__name__}")
    mapping.setdefault("name", os.path.splitext(where)[0])
    for override in overrides:
        _override(mapping, override)
    return where, mapping


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
        mapping[last] = _parse(value)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise errors.UsageError(f"--set {override!r}: the value is not YAML: {reason}") from error

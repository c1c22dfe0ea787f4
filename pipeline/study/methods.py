"""What a study compares: methods by name, each a head with or without additions."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.pipeline import recipe as recipe_lib

# What may be added to a head, each with what it changes of the recipe.
ADDITIONS: dict[str, dict[str, dict[str, Any]]] = {
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
# Images of an identity side by side in a batch, for triplets, where the recipe has no `training.images_per_class`.
_TRIPLET_IMAGES = 4
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
            for part, values in ADDITIONS[name].items():
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


def names() -> tuple[str, ...]:
    """Every method without additions of one's own: the heads, and the papers' names."""
    return (*heads.HEADS, *ALIASES)


def parse(text: str, own: config_lib.Head) -> Method:
    """Reads "leap-cv", "adaface+leap_f" or, with another scale or margin, "leap-cv:s=32,m=0.3".

    A head that is the recipe's `own` has the recipe's scale and margin, any other those of its class's `START`.

    Raises:
      errors.UsageError: unknown method or setting.
    """
    base, colon, tuned = text.partition(":")
    first, *added = base.split("+")
    head, *own_added = ALIASES.get(first, first).split("+")
    added = own_added + added
    unknown = [name for name in (head,) if name not in heads.HEADS] + [name for name in added if name not in ADDITIONS]
    if unknown:
        known = f"one of {', '.join(names())}, with + and {', '.join(ADDITIONS)}"
        raise errors.UsageError(f"--methods: unknown {unknown[0]!r} in {text!r}; {known}")
    _refuse_contradictions(text, added)
    start = own if own.name == head else _start(head)
    return Method(text, dataclasses.replace(start, **_changes(text, head, tuned)), tuple(added), f"{colon}{tuned}")


def _start(name: str) -> config_lib.Head:
    start = heads.HEADS[name].START
    return config_lib.Head(name, start.scale, start.margin, dict(start.options))


def _refuse_contradictions(text: str, added: Sequence[str]) -> None:
    changed = [(part, key) for name in added for part, values in ADDITIONS[name].items() for key in values]
    if len(set(changed)) < len(changed):
        raise errors.UsageError(f"--methods: {text!r}: {' and '.join(added)} exclude each other; write one of them")


def _changes(text: str, head: str, tuned: str) -> dict[str, Any]:
    """What stands after a method's colon: scale, margin or both."""
    changes: dict[str, Any] = {}
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
    return changes

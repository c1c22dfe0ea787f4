"""What a user may change between runs of one compiled pipeline: values of the recipe, as runtime parameters."""

import dataclasses
import difflib
from collections.abc import Iterable

from tfx.orchestration import data_types

from longtail.models import errors
from longtail.models import settings
from longtail.pipeline import recipe as recipe_lib

# Keys that are left open without being asked for.
DEFAULT = (
    "training.epochs",
    "training.batch",
    "training.rate",
    "training.seed",
    "head.name",
    "head.scale",
    "head.margin",
    "leap.variant",
    "rebalance.strategy",
    "rebalance.head",
    "rebalance.tail_images",
    "rebalance.cap",
    "rebalance.repeat_to",
    "evaluation.floor_map",
    "evaluation.margin",
)

# What the file itself is made from (its name, its wiring, Transform's graph, where the data is), and what spans must
# have in common to be compared, is compiled in.
_COMPILED_IN = ("name", "summary", "data.source", "data.max_pixels", "drift.sample", "training.start_from")


def choices() -> dict[str, type]:
    """Every key of a recipe that can be left open, and its type; those of a study or a card reach no step."""
    found = settings.scalars(recipe_lib.Recipe).items()
    return {key: kind for key, kind in found if key not in _COMPILED_IN and not key.startswith(("study.", "card."))}


def parameter_name(key: str) -> str:
    """The runtime parameter of a key: `head_scale` of `head.scale`."""
    return key.replace(".", "_")


def leave_open(recipe: recipe_lib.Recipe, asked: Iterable[str]) -> recipe_lib.Recipe:
    """Puts a runtime parameter, with the recipe's value as its default, in place of each value that is asked for.

    Raises:
      errors.UsageError: a key that cannot be left open.
    """
    known = choices()
    for key in dict.fromkeys(asked):
        if key not in known:
            raise errors.UsageError(f"--parameter {key}: {_why_not(key, known)}")
        section, leaf = key.split(".")
        part = getattr(recipe, section)
        kind = known[key]
        default = getattr(part, leaf)
        parameter = data_types.RuntimeParameter(
            parameter_name(key), int if kind is bool else kind, int(default) if kind is bool else default
        )
        recipe = dataclasses.replace(recipe, **{section: dataclasses.replace(part, **{leaf: parameter})})
    return recipe


def _why_not(key: str, known: dict[str, type]) -> str:
    section, _, leaf = key.partition(".")
    if key in _COMPILED_IN or leaf in {field.name for field in _fields(section)}:
        return "is compiled into several steps or holds more than one value; change it with --set and compile again"
    near = difflib.get_close_matches(key, known, n=1)
    return f"no such key; did you mean {near[0]!r}?" if near else f"no such key; one of {', '.join(known)}"


def _fields(section: str) -> tuple[dataclasses.Field, ...]:
    part = getattr(recipe_lib.Recipe(""), section, None)
    return dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()

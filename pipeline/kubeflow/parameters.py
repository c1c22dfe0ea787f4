"""Runtime parameters of a compiled pipeline, given as KEY=VALUE: each must be known and of its type."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from longtail.components import config
from longtail.models import errors
from longtail.models import settings
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.kubeflow import ir

_BOOLEANS = {"true": True, "false": False}


def pairs(given: Sequence[str], option: str = "--param") -> dict[str, str]:
    """KEY=VALUE, each key once.

    Raises:
      errors.UsageError: no KEY=VALUE, or a key twice.
    """
    found: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise errors.UsageError(f"{option} {pair}: give KEY=VALUE")
        if key in found:
            raise errors.UsageError(f"{option} {key} is given twice")
        found[key] = value
    return found


def typed(pipeline: ir.Pipeline, given: Mapping[str, str]) -> dict[str, Any]:
    """What was given, each as a value of its parameter's type; defaults are left to whoever runs the pipeline.

    Raises:
      errors.UsageError: an unknown parameter, a value of another type or out of its range, or a parameter that must be
        given and is not.
    """
    for name in given:
        if name not in pipeline.parameters:
            near = difflib.get_close_matches(name, pipeline.parameters, 1)
            known = f"did you mean {near[0]}?" if near else f"it has {', '.join(pipeline.parameters) or 'none'}"
            raise errors.UsageError(f"{pipeline.path}: no parameter {name!r}; {known}")
    for name, parameter in pipeline.parameters.items():
        if parameter.default is None and not parameter.optional and name not in given:
            raise errors.UsageError(f"{pipeline.path}: parameter {name} has no default; give it: --param {name}=VALUE")
    values = {name: _value(pipeline, pipeline.parameters[name], text) for name, text in given.items()}
    if pipeline.name.startswith(recipe_lib.PIPELINE_PREFIX):
        _check_ranges(pipeline, values)
    return values


def _check_ranges(pipeline: ir.Pipeline, values: Mapping[str, Any]) -> None:
    """Refuses values that the recipe's own check would; what is compiled in was checked then."""
    from longtail.models import check  # imports TensorFlow

    if "span" in values:
        settings.check_values(config.Span, "--param ", span=values["span"])
    left_open = {name: values.get(name, parameter.default) for name, parameter in pipeline.parameters.items()}
    recipe = recipe_lib.Recipe(pipeline.name)
    for key, kind in settings.scalars(recipe_lib.Recipe).items():
        section, _, leaf = key.partition(".")
        value = left_open.get(f"{section}_{leaf}")
        if value is not None:
            value = bool(value) if kind is bool and value in (0, 1) else value
            part = dataclasses.replace(getattr(recipe, section), **{leaf: value})
            recipe = dataclasses.replace(recipe, **{section: part})
    for one in settings.walk(recipe, check.RULES):
        name = one.key.replace(".", "_")
        if name in left_open and one.allowed:
            settings.require(f"--param {name}", one.value, one.allowed)


def read(text: str, kind: str) -> Any:
    """A value of a parameter's type.

    Raises:
      ValueError, KeyError: the text is of another type.
    """
    return _READERS[kind](text)


def _value(pipeline: ir.Pipeline, parameter: ir.Parameter, text: str) -> Any:
    try:
        return read(text, parameter.type)
    except (ValueError, KeyError) as error:
        raise errors.UsageError(
            f"{pipeline.path}: parameter {parameter.name} is of type {parameter.type}. Received: {text!r}"
        ) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _json(kind: type) -> Any:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_READERS = {
    "STRING": str,
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": _finite,
    "BOOLEAN": lambda text: _BOOLEANS[text.lower()],
    "LIST": _json(list),
    "STRUCT": _json(dict),
}

"""What a training is told, as frozen dataclasses, and the strict reader that makes them from a recipe's mappings."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any
from typing import TypeVar

from longtail.models import augment as augment_lib
from longtail.models import errors

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Model:
    """The embedder. `image` is (height, width, channels); `weights` a local Keras weights file, never downloaded."""

    backbone: str = "conv4"
    image: tuple[int, ...] = (32, 32, 1)
    dimension: int = 128
    weight_decay: float = 0.0
    weights: str = ""


@dataclasses.dataclass(frozen=True)
class Head:
    """The classification head: a name of `longtail.models.heads.HEADS`, scale s, margin m, and its own numbers."""

    name: str = "cosface"
    scale: float = 24.0
    margin: float = 0.2
    options: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is made of the logits: a name of `longtail.models.losses.LOSSES`; a centre loss too where it has weight."""

    name: str = "cross_entropy"
    beta: float = 0.999  # of the effective number
    start_epoch: int = 0  # the class-balanced weights begin here
    centre_weight: float = 0.0  # lambda
    centre_rate: float = 0.5  # alpha


@dataclasses.dataclass(frozen=True)
class Leap:
    """The feature cloud; `variant` is "none", "vanilla" or "full". Symbols are those of the LEAP paper."""

    variant: str = "none"
    start_epoch: int = 8  # E_0
    images_kept: int = 3  # P
    centre_momentum: float = 0.1  # gamma
    angle_order: str = "after"
    head_threshold: int = 10  # T
    refresh_every: int = 1  # n


@dataclasses.dataclass(frozen=True)
class Training:
    """The optimisation. `rate` is the highest learning rate; `precision` a Keras dtype policy.

    `images_per_class` K makes batches of batch / K identities with K images each; 0 makes them of any images.
    """

    epochs: int = 24
    batch: int = 128
    images_per_class: int = 0
    optimizer: str = "adam"
    rate: float = 2e-3
    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    cycles: int = 3
    seed: int = 0
    precision: str = "float32"
    cache_megabytes: int = 1024


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All that decides a training but its data."""

    model: Model = dataclasses.field(default_factory=Model)
    head: Head = dataclasses.field(default_factory=Head)
    loss: Loss = dataclasses.field(default_factory=Loss)
    leap: Leap = dataclasses.field(default_factory=Leap)
    augment: augment_lib.Augmentation = dataclasses.field(default_factory=augment_lib.Augmentation)
    training: Training = dataclasses.field(default_factory=Training)


def read(kind: type[T], mapping: Any, where: str, prefix: str = "") -> T:
    """Makes the dataclass `kind` from a mapping, refusing what it does not know.

    Args:
      kind: a dataclass whose fields are dataclasses, str, bool, int, float, or tuples of these.
      mapping: parsed YAML or JSON.
      where: the file the mapping came from, for messages.
      prefix: key path of `mapping` in that file.

    Raises:
      errors.UsageError: an unknown key (the nearest valid one is named) or an ill-typed value.
    """
    if not isinstance(mapping, Mapping):
        raise errors.UsageError(f"{where}: {prefix or 'the file'} must be a mapping, not {mapping!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in mapping.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(fields)}"
            raise errors.UsageError(f"{where}: unknown key {path!r}; {hint}")
        values[key] = _value(hints[key], value, where, path)
    return kind(**values)


def scalars(kind: type, prefix: str = "") -> dict[str, type]:
    """Key paths of a dataclass's single values, and their types; lists and mappings are left out."""
    found: dict[str, type] = {}
    for name, hint in typing.get_type_hints(kind).items():
        path = f"{prefix}{name}"
        if dataclasses.is_dataclass(hint):
            found |= scalars(typing.cast(type, hint), f"{path}.")
        elif hint in (str, int, float, bool):
            found[path] = hint
    return found


def _value(hint: Any, value: Any, where: str, path: str) -> Any:
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return read(typing.cast(type, hint), value, where, path)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(typing.get_args(hint)[0], item, where, path) for item in value)
    if origin in (types.UnionType, typing.Union) and value is None:
        return None
    if origin in (types.UnionType, typing.Union):
        return _value(next(arg for arg in typing.get_args(hint) if arg is not types.NoneType), value, where, path)
    if origin is dict and isinstance(value, Mapping):
        inner = typing.get_args(hint)[1]
        return {str(key): _value(inner, item, where, f"{path}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    name = getattr(hint, "__name__", str(hint))
    raise errors.UsageError(f"{where}: {path} must be {name}, not {value!r}")

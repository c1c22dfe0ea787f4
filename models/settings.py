"""Settings as dataclass fields that say what they may hold: how they are declared, read from a mapping, and checked."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import Protocol
from typing import TypeVar

from longtail.models import errors

T = TypeVar("T")


class Allowed(Protocol):
    """What a setting may hold; as text, the words after "must be"."""

    def problem(self, value: Any) -> str:
        """What is wrong with a value, as the words that follow its key; "" for nothing."""


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number from `least` to `most`, both allowed unless they are in `without`."""

    least: float
    most: float
    whole: bool = False
    without: tuple[float, ...] = ()

    def __str__(self):
        but = f" other than {' and '.join(f'{end:.10g}' for end in self.without)}" if self.without else ""
        return f"a {'whole ' if self.whole else ''}number from {self.least:.10g} to {self.most:.10g}{but}"

    def problem(self, value: Any) -> str:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and self.least <= value <= self.most
        fits = fits and value not in self.without and not (self.whole and value != int(value))
        return "" if fits else _must(self, value)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: tuple[str, ...]

    def __str__(self):
        return f"one of {', '.join(self.names)}"

    def problem(self, value: Any) -> str:
        return "" if isinstance(value, str) and value in self.names else _must(self, value)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that matches `pattern` from end to end; `words` say the same to a reader."""

    words: str = "a text"
    pattern: str = r"(?s:.*)"

    def __str__(self):
        return self.words

    def problem(self, value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return ""
        hint = "; write '' in quotes for an empty one" if value is None and re.fullmatch(self.pattern, "") else ""
        return _must(self, value) + hint


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def __str__(self):
        return "true or false"

    def problem(self, value: Any) -> str:
        return "" if isinstance(value, bool) else _must(self, value)


@dataclasses.dataclass(frozen=True)
class Table:
    """Values by key, each within what its key allows."""

    entries: Mapping[str, Allowed]

    def __str__(self):
        if not self.entries:
            return "an empty mapping"
        kinds = {allowed: [key for key in self.entries if self.entries[key] == allowed] for allowed in self.values}
        return "a mapping of " + "; ".join(f"{', '.join(keys)} to {allowed}" for allowed, keys in kinds.items())

    @property
    def values(self) -> tuple[Allowed, ...]:
        """Each of what is allowed, once."""
        return tuple(dict.fromkeys(self.entries.values()))

    def problem(self, value: Any) -> str:
        if not isinstance(value, Mapping):
            return _must(self, value)
        for key, item in value.items():
            if key not in self.entries:
                near = difflib.get_close_matches(str(key), self.entries, n=1)
                known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(self.entries) or 'none'}"
                return f" has no {key!r}; {known}"
            problem = self.entries[key].problem(item)
            if problem:
                return f".{key}{problem}"
        return ""


def _must(allowed: Any, value: Any) -> str:
    return f" must be {allowed}, not {'nothing' if value is None else repr(value)}"


def setting(default: Any, allowed: Allowed | None, doc: str) -> Any:
    """A dataclass field with what it may hold and, in one sentence, what it is.

    `allowed` is None where that hangs on other settings: the rules given to `check` say it.
    """
    metadata = {"allowed": allowed, "doc": doc}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def number(default: float, least: float, most: float, doc: str, without: tuple[float, ...] = ()) -> Any:
    """A field for a number, a whole one where its default is an int."""
    return setting(default, Number(least, most, isinstance(default, int), without), doc)


def choice(default: str, names: tuple[str, ...], doc: str) -> Any:
    """A field for one of some names."""
    return setting(default, Choice(names), doc)


def flag(default: bool, doc: str) -> Any:
    """A field for true or false."""
    return setting(default, Flag(), doc)


def text(default: str, doc: str) -> Any:
    """A field for any text."""
    return setting(default, Text(), doc)


class Setting(NamedTuple):
    """One value of nested settings, under its key path."""

    key: str
    value: Any
    allowed: Allowed | None
    doc: str


Rules = Mapping[str, Callable[[Any], Allowed]]


def walk(settings: Any, rules: Rules = types.MappingProxyType({})) -> Iterator[Setting]:
    """All values of a dataclass of settings and of those within it, in the order they are declared.

    Args:
      settings: an instance.
      rules: for a key whose range hangs on other settings, what answers it, given `settings`. Whoever looks at a value
        before asking for the next may rely on those declared before it.
    """
    yield from _walk(settings, rules, settings, "")


def _walk(part: Any, rules: Rules, whole: Any, prefix: str) -> Iterator[Setting]:
    for field in dataclasses.fields(part):
        key, value = f"{prefix}{field.name}", getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            yield from _walk(value, rules, whole, f"{key}.")
        else:
            allowed = rules[key](whole) if key in rules else field.metadata["allowed"]
            yield Setting(key, value, allowed, field.metadata["doc"])


def check(settings: Any, rules: Rules = types.MappingProxyType({}), prefix: str = "") -> None:
    """Refuses the first value that is not allowed.

    Raises:
      errors.UsageError: its key behind `prefix`, what it may hold, and what it holds.
    """
    for one in walk(settings, rules):
        if one.allowed:
            require(f"{prefix}{one.key}", one.value, one.allowed)


def check_values(kind: type, prefix: str, **values: Any) -> None:
    """As `check`, of single values by the names of `kind`'s fields: for code that takes them one by one.

    Raises:
      errors.UsageError: a value is not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in values.items():
        require(f"{prefix}{name}", value, fields[name].metadata["allowed"])


def require(key: str, value: Any, allowed: Allowed) -> None:
    """As `check`, of one value."""
    problem = allowed.problem(value)
    if problem:
        raise errors.UsageError(f"{key}{problem}")


def pick(kind: type[T], mapping: Mapping[str, Any]) -> T:
    """The dataclass `kind` with its fields' values out of a mapping that may hold more."""
    return kind(**{field.name: mapping[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def read(kind: type[T], mapping: Any, where: str, prefix: str = "") -> T:
    """Makes the dataclass `kind` from a mapping, refusing what it does not know; ranges are `check`'s.

    Args:
      kind: a dataclass whose fields are dataclasses, str, bool, int, float, or tuples or dicts of these.
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
            meant = f"{prefix}.{near[0]}" if near and prefix else "".join(near)
            hint = f"did you mean {meant!r}?" if near else f"valid keys: {', '.join(fields)}"
            raise errors.UsageError(f"{where}: unknown key {path!r}; {hint}")
        try:
            values[key] = _value(hints[key], value, where, path)
        except (TypeError, OverflowError) as error:
            allowed = fields[key].metadata.get("allowed")
            problem = allowed.problem(value) if allowed else _must(_words(hints[key]), value)
            raise errors.UsageError(f"{where}: {path}{problem}") from error
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


def _words(hint: Any) -> str:
    """What a value of a type is, to a reader."""
    origin, inner = typing.get_origin(hint), [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
    if origin in (types.UnionType, typing.Union):
        return _words(inner[0])
    if origin is tuple:
        return f"a list, each item {_words(inner[0])}"
    if origin is dict:
        return f"a mapping, each value {_words(inner[1])}"
    return {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}.get(hint, "a mapping")


def _value(hint: Any, value: Any, where: str, path: str) -> Any:
    """A value as its field's type; raises TypeError or OverflowError where it is of another."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return read(typing.cast(type, hint), value, where, path)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        some = next(arg for arg in inner if arg is not types.NoneType)
        return None if value is None else _value(some, value, where, path)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(inner[0], item, where, path) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _value(inner[1], item, where, f"{path}.{key}") for key, item in value.items()}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and is_number:
        return float(value)
    if hint is int and is_number and value == value // 1:  # 1e3 is written for 1000 as well
        return int(value)
    if origin is None and hint is not int and isinstance(value, hint):
        return value
    raise TypeError

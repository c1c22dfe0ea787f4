"""Values of CEL: how they compare, add up and become each other, as in cel-go; no type becomes another unasked."""

import decimal
import json
import math
import operator
import re
from collections.abc import Callable
from typing import Any

_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SUMS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Error(ValueError):
    """The text is no expression, or has no value for these variables."""


def compare(sign: str, left: Any, right: Any) -> bool:
    """`left sign right`; values that cannot be alike are unequal.

    Raises:
      Error: they have no order.
    """
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    if not _alike(left, right) or not isinstance(left, (int, float, str)):
        raise Error(f"no overload: {type_name(left)} {sign} {type_name(right)}")
    return _COMPARISONS[sign](left, right)


def _alike(left: Any, right: Any) -> bool:
    return type_name(left) == type_name(right) or (is_number(left) and is_number(right))


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    return _alike(left, right) and left == right


def calculate(sign: str, left: Any, right: Any) -> Any:
    """`left sign right` of two of one type.

    Raises:
      Error: they are of other types, or the whole number is too large.
    """
    adds = sign == "+" and type(left) is str
    if type(left) is not type(right) or not (adds or is_number(left)):
        raise Error(f"no overload: {type_name(left)} {sign} {type_name(right)}")
    found = _SUMS[sign](left, right)
    return INT(found) if isinstance(found, int) else found


def is_number(value: Any) -> bool:
    """Whether it is a number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def type_name(value: Any) -> str:
    """What CEL calls its type."""
    names = {bool: "bool", int: "int", float: "double", str: "string", dict: "map", list: "list"}
    return names.get(type(value), "null")


def _converted(name: str, kinds: tuple[type, ...], convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def function(value: Any) -> Any:
        if type(value) not in kinds:
            raise Error(f"no overload: {name}({type_name(value)})")
        try:
            return convert(value)
        except (KeyError, ValueError, OverflowError) as error:
            raise Error(f"{name}({value!r:.80}) has no value") from error

    return function


def _whole(value: int | float | str) -> int:
    number = int(value if isinstance(value, float) else _bare(value))
    if not -(2**63) <= number < 2**63:
        raise OverflowError(number)
    return number


def _bare(value: Any) -> Any:
    """Refuses the blanks and underscores that Python allows in a number's text."""
    if isinstance(value, str) and re.search(r"[\s_]", value):
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        digits = decimal.Decimal(repr(value)).normalize()
        return f"{digits:f}" if -5 < digits.adjusted() < 6 else f"{value:.{len(digits.as_tuple().digits) - 1}e}"
    return str(value).lower() if isinstance(value, bool) else str(value)


INT = _converted("int", (int, float, str), _whole)

_TRUTHS = {
    **dict.fromkeys(("true", "True", "TRUE", "t", "1", True), True),
    **dict.fromkeys(("false", "False", "FALSE", "f", "0", False), False),
}
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "int": INT,
    "double": _converted("double", (int, float, str), lambda value: float(_bare(value))),
    "string": _converted("string", (int, float, str, bool), _text),
    "bool": _converted("bool", (str, bool), _TRUTHS.__getitem__),
    "size": _converted("size", (str, list, dict), len),
    "parseJson": _converted("parseJson", (str,), lambda text: json.loads(text, parse_int=float)),
}

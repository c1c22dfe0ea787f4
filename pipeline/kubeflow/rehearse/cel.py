"""Conditions of a compiled pipeline: a reader of the part of CEL that TFX and Kubeflow write, and nothing of Python's.

A condition becomes a function of its variables. Numbers, strings, `true`, `false`, `null`; `.field`, `['key']`, `[0]`;
`! - * + < <= > >= == != && ||`; `int() double() string() bool() size() parseJson()`. As in cel-go, an error beside an
operand that decides alone is no error, values of different types are unequal, and whole and broken numbers compare.
"""

import re
from collections.abc import Callable
from typing import Any

from longtail.pipeline.kubeflow.rehearse import cel_values

Scope = dict[str, Any]
Node = Callable[[Scope], Any]

_TOKEN = re.compile(
    r"""(?P<number>(\d+(\.\d+)?|\.\d+)([eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<string>'([^'\\\n]|\\.)*'|"([^"\\\n]|\\.)*")
    |(?P<sign>&&|\|\||[=!<>]=|[-+*!<>()\[\].])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "`": "`", "?": "?"}
_WORDS = {"true": True, "false": False, "null": None}

Error = cel_values.Error


def condition(text: str) -> Callable[[Scope], bool]:
    """Reads a condition; the function returned raises `Error` where it has no value, or one that is no bool.

    Raises:
      Error: the text is not of the language above.
    """
    node = _within_limits(lambda: _Parser(text).whole())

    def value(scope: Scope) -> bool:
        found = _within_limits(lambda: node(scope))
        if not isinstance(found, bool):
            raise Error(f"it gives {found!r}, which is neither true nor false")
        return found

    return value


def _within_limits(work: Callable[[], Any]) -> Any:
    """What `work` returns; that it is nested deeper than can be followed is an error, as it is in cel-go."""
    try:
        return work()
    except RecursionError:
        raise Error("it is nested too deeply") from None


class _Parser:
    """Recursive descent, one method a level of precedence, loosest first."""

    def __init__(self, text: str):
        self._tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            position += len(text[position:]) - len(text[position:].lstrip())
            match = _TOKEN.match(text, position)
            if match is None:
                raise Error(f"{text[position]!r} at {position} cannot be read")
            self._tokens.append((match.lastgroup or "", match.group(), position))
            position = match.end()
        self._tokens.append(("end", "its end", position))

    def whole(self) -> Node:
        node = self._any()
        if self._tokens[0][0] != "end":
            self._fail("an operator")
        return node

    def _fail(self, wanted: str):
        raise Error(f"{self._tokens[0][1]!r} at {self._tokens[0][2]} where {wanted} was expected")

    def _accept(self, *signs: str) -> str:
        kind, text, _ = self._tokens[0]
        if kind == "sign" and text in signs:
            del self._tokens[0]
            return text
        return ""

    def _expect(self, sign: str) -> None:
        if not self._accept(sign):
            self._fail(repr(sign))

    def _any(self) -> Node:
        node = self._all()
        while self._accept("||"):
            node = _deciding(True, node, self._all())
        return node

    def _all(self) -> Node:
        node = self._relation()
        while self._accept("&&"):
            node = _deciding(False, node, self._relation())
        return node

    def _relation(self) -> Node:
        node = self._sum()
        while sign := self._accept("==", "!=", "<", "<=", ">", ">="):
            node = _binary(cel_values.compare, sign, node, self._sum())
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._accept("+", "-"):
            node = _binary(cel_values.calculate, sign, node, self._product())
        return node

    def _product(self) -> Node:
        node = self._unary()
        while sign := self._accept("*"):
            node = _binary(cel_values.calculate, sign, node, self._unary())
        return node

    def _unary(self) -> Node:
        sign = self._accept("!", "-")
        return _signed(sign, self._unary()) if sign else self._member()

    def _member(self) -> Node:
        node = self._primary()
        while sign := self._accept(".", "["):
            if sign == ".":
                kind, text, _ = self._tokens.pop(0)
                if kind != "name":
                    raise Error(f"{text!r} is no name of a field")
                node = _item(node, _constant(text))
            else:
                node = _item(node, self._any())
                self._expect("]")
        return node

    def _primary(self) -> Node:
        kind, text, _ = self._tokens[0]
        if self._accept("("):
            node = self._any()
            self._expect(")")
            return node
        if kind not in ("number", "string", "name"):
            self._fail("a value")
        del self._tokens[0]
        if kind == "name" and text not in _WORDS:
            return self._call(text) if self._accept("(") else _variable(text)
        literal = _WORDS[text] if kind == "name" else _number(text) if kind == "number" else _unquoted(text)
        return _constant(literal)

    def _call(self, name: str) -> Node:
        if name not in cel_values.FUNCTIONS:
            raise Error(f"there is no function {name!r} here")
        argument = self._any()
        self._expect(")")
        return lambda scope: cel_values.FUNCTIONS[name](argument(scope))


def _number(text: str) -> int | float:
    return cel_values.INT(text) if text.isdigit() else float(text)


def _unquoted(text: str) -> str:
    def character(match: re.Match) -> str:
        if match.group(1) not in _ESCAPES:
            raise Error(f"escape {match.group()!r} cannot be read")
        return _ESCAPES[match.group(1)]

    return re.sub(r"\\(.)", character, text[1:-1])


def _constant(value: Any) -> Node:
    return lambda scope: value


def _variable(name: str) -> Node:
    def value(scope: Scope) -> Any:
        if name not in scope:
            raise Error(f"there is no {name!r}")
        return scope[name]

    return value


def _item(node: Node, key: Node) -> Node:
    def value(scope: Scope) -> Any:
        holder, name = node(scope), key(scope)
        if isinstance(holder, dict):
            if not isinstance(name, str) or name not in holder:
                raise Error(f"no such key: {name}")
            return holder[name]
        if isinstance(holder, list) and cel_values.is_number(name) and name == int(name):
            if not 0 <= name < len(holder):
                raise Error(f"index out of bounds: {int(name)}")
            return holder[int(name)]
        raise Error(f"{cel_values.type_name(holder)} has no {name!r}")

    return value


def _deciding(deciding: bool, left: Node, right: Node) -> Node:
    """`||` where True decides, `&&` where False does: whichever side decides, the other may be an error."""

    def value(scope: Scope) -> bool:
        failed = None
        for node in (left, right):
            try:
                found = node(scope)
                if not isinstance(found, bool):
                    raise Error(f"{cel_values.type_name(found)} is neither true nor false")
            except Error as error:
                failed = failed or error
                continue
            if found is deciding:
                return deciding
        if failed:
            raise failed
        return not deciding

    return value


def _signed(sign: str, node: Node) -> Node:
    def value(scope: Scope) -> bool | int | float:
        found = node(scope)
        if sign == "!" and isinstance(found, bool):
            return not found
        if sign == "-" and cel_values.is_number(found):
            return -found
        raise Error(f"no overload: {sign}{cel_values.type_name(found)}")

    return value


def _binary(function: Callable[[str, Any, Any], Any], sign: str, left: Node, right: Node) -> Node:
    return lambda scope: function(sign, left(scope), right(scope))

"""TF Serving's JSON: rows (`instances`) or columns (`inputs`) of numbers, strings and {"b64": ...} to arrays.

orjson does the work. What it refuses goes to the standard library: NaN, Inf and Infinity are bare words there, as in TF
Serving's util/json_tensor.cc, whose messages these are.
"""

import binascii
import collections
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import orjson
import tensorflow as tf

from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import tensors

_WORDS = (b"NaN", b"Inf")
_INF = re.compile(rb'"(?:[^"\\]|\\.)*"|\bInf\b')
_MOST_VALUES = 4 << 20  # and lists and objects; while they are read, nothing else is done, and each takes 64 bytes
_SHOWN = 256  # characters of a value in an error
_FITS: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}  # by kind
_NAMES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}

Specs = Mapping[str, tensors.Spec | tf.TensorSpec]


def short(value: Any) -> str:
    """What a client sent, cut so that it fits into the line that says what is wrong with it."""
    text = ""
    try:
        for piece in json.JSONEncoder().iterencode(value):
            text += piece[:_SHOWN]
            if len(text) >= _SHOWN:
                return text[:_SHOWN]
    except RecursionError:
        return "a value nested too deep"
    return text


def _wrong(value: Any, why: str) -> request_errors.RequestError:
    return request_errors.invalid(f"JSON Value: {short(value)} {why}")


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; INVALID_ARGUMENT if it is none, has a key twice, or too many values."""
    if not body:
        raise request_errors.invalid("JSON Parse error: The document is empty")
    if len(body) > _MOST_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        line = f"more than {_MOST_VALUES} values; send fewer at a time, or send them over gRPC"
        raise request_errors.invalid(f"JSON Parse error: {line}")
    try:
        document = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise request_errors.invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise _wrong(document, "Is not object")
    return document


def _parsed(body: bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        if any(word in body for word in _WORDS):
            body = _INF.sub(lambda found: b"Infinity" if found[0] == b"Inf" else found[0], body)
            return json.loads(body, object_pairs_hook=_object)
        raise
    # A key that came twice is lost by now, its colon is not. A colon in a string costs the second reading in vain.
    if body.count(b":") != _keys(document):
        json.loads(body, object_pairs_hook=_object)
    return document


def _keys(value: Any) -> int:
    """How many keys there are in `value`, where requests use to have them."""
    if type(value) is dict:
        return len(value) + sum(map(_keys, value.values()))
    if type(value) is list and value and type(value[0]) is dict:
        return sum(map(_keys, value))
    return 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        [(twice, _)] = collections.Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {short(twice)} comes twice in an object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature the request names; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _wrong(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def _is_b64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and type(value.get("b64")) is str


def _is_object(value: Any) -> bool:
    """Whether it is a row of named inputs, not bytes."""
    return type(value) is dict and not _is_b64(value)


def _decoded(text: str) -> bytes | None:
    """Base64 as TF Serving reads it, padded or not; None where it is none."""
    digits = len(text) - (text.endswith("=") + text.endswith("=="))
    if digits % 4 == 1 or (digits != len(text) and len(text) % 4):
        return None
    try:
        found = binascii.a2b_base64(text if not len(text) % 4 else text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    # binascii leaves out what is not of the alphabet. The bytes are then fewer than the characters promised.
    return found if len(found) == digits * 3 // 4 else None


def _bytes_of(value: Any) -> bytes:
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # JSON can say half of a surrogate pair, UTF-8 cannot
            raise _wrong(value, "holds an invalid surrogate pair") from error
    if not _is_b64(value):
        raise _wrong(value, "not formatted correctly for base64 data")
    found = _decoded(text := value["b64"])
    if found is None:
        found = _decoded("".join(text.split()))
    if found is None:
        raise request_errors.invalid("Unable to base64 decode")
    return found


def _type_error(value: Any, dtype: tf.DType) -> request_errors.RequestError:
    name = _NAMES.get(type(value)) or str(value)  # True and False are types of their own there
    wanted = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
    return _wrong(value, f"Type: {name} is not of expected type: {wanted}")


def _array(flat: list[Any], dtype: tf.DType, kind: str) -> np.ndarray:
    if kind == "O":
        found = np.empty(len(flat), object)
        found[:] = [_bytes_of(value) for value in flat]
        return found
    if kind in "iu" and flat and not (dtype.min <= min(flat) and max(flat) <= dtype.max):
        raise _type_error(next(value for value in flat if not dtype.min <= value <= dtype.max), dtype)
    try:
        with np.errstate(over="ignore"):  # what is beyond the type is infinite, as for TF Serving
            return np.array(flat, dtype.as_numpy_dtype)
    except OverflowError as error:  # a whole number of more than 308 digits
        raise request_errors.invalid("JSON Parse error: Number too big to be stored in double.") from error


def _shape(value: Any, alias: str) -> list[int]:
    """As the first item, its first item and so on say it."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        value = value[0] if value else None
    tensors.check_rank(alias, len(shape))
    return shape


def _column(value: Any, dtype: tf.DType, alias: str) -> np.ndarray:
    """The array of one input that came as a whole: nested lists of values, or one value."""
    shape = _shape(value, alias)
    kind = "O" if dtype == tf.string else "f" if dtype.is_floating else np.dtype(dtype.as_numpy_dtype).kind
    if kind not in _FITS:
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {short(value)} to type: {dtype.name}"
        )
    flat = [value]
    for level, size in enumerate(shape):
        for item in flat if set(map(type, flat)) != {list} or set(map(len, flat)) != {size} else ():
            if type(item) is not list:
                where = f"incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}"
                raise _wrong(item, f"found at {where}")
            if len(item) != size:
                line = f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {size}"
                raise request_errors.invalid(line)
        flat = list(itertools.chain.from_iterable(flat))
    for item in flat if not set(map(type, flat)) <= _FITS[kind] else ():
        if type(item) is list:
            raise request_errors.invalid(f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}")
        if type(item) not in _FITS[kind]:
            raise _type_error(item, dtype)
    return _array(flat, dtype, kind).reshape(shape)


def _rows(items: list[Any], dtype: tf.DType, alias: str, key: str) -> np.ndarray:
    """The array of one input that came in rows; `key` names the input in an error, empty where the rows do not."""
    _shape(items, alias)  # of which no row is guilty
    try:
        return _column(items, dtype, alias)
    except request_errors.RequestError as error:
        number, said = _guilty(items, dtype, alias) or (-1, error)
        if number < 0 or said.code != grpc.StatusCode.INVALID_ARGUMENT:
            raise
    raise request_errors.invalid(
        f"Failed to process element: {number}{key} of 'instances' list. Error: INVALID_ARGUMENT: {said.message}"
    )


def _guilty(items: list[Any], dtype: tf.DType, alias: str) -> tuple[int, request_errors.RequestError] | None:
    """The row that is wrong by itself, or is not like the first, and what is wrong with it."""
    wanted: tuple[int, ...] = ()
    for number, item in enumerate(items):
        try:
            array = _column(item, dtype, alias)
        except request_errors.RequestError as error:
            return number, error
        wanted = wanted if number else array.shape
        if array.shape != wanted:
            found, expected = (",".join(map(str, shape)) for shape in (array.shape, wanted))
            line = f"Expecting shape [{expected}] but got: [{found}]"
            if array.size != np.prod(wanted, dtype=int):
                line = f"Expecting tensor size: {np.prod(wanted, dtype=int)} but got: {array.size}"
            return number, request_errors.invalid(line)
    return None


def _only(specs: Specs, message: str) -> str:
    if len(specs) != 1:
        raise request_errors.invalid(f"{message} input tensors required as per tensorinfo_map")
    return next(iter(specs))


def _check_keys(number: int, item: Any, specs: Specs) -> None:
    if not _is_object(item):
        raise request_errors.invalid(f"Expecting object but got list at item {number} of input list")
    if unknown := [name for name in item if name not in specs]:
        raise request_errors.invalid(
            f"Failed to process element: {number} key: {unknown[0]} of 'instances' list. Error: INVALID_ARGUMENT: JSON "
            f"object: does not have named input: {unknown[0]}"
        )
    if len(item) != len(specs):
        raise request_errors.invalid(
            f"Failed to process element: {number} of 'instances' list. JSON object: {short(item)} keys must be "
            f"equal to: {','.join(sorted(specs))}"
        )


def _of_rows(document: dict[str, Any], specs: Specs) -> dict[str, np.ndarray]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise _wrong(document, "Expecting 'instances' to be an list/array")
    if not rows:
        raise _wrong(document, "No values in 'instances' array")
    if not _is_object(rows[0]):
        alias = _only(specs, "instances is a plain list, but expecting list of objects as multiple")
        if number := next((number for number, item in enumerate(rows) if _is_object(item)), 0):
            raise request_errors.invalid(f"Expecting value/list but got object at item {number} of input list")
        return {alias: _rows(rows, specs[alias].dtype, alias, "")}
    for number, item in enumerate(rows):
        _check_keys(number, item, specs)
    return {
        alias: _rows([item[alias] for item in rows], spec.dtype, alias, f" key: {alias}")
        for alias, spec in specs.items()
    }


def inputs_of(document: dict[str, Any], specs: Specs) -> tuple[dict[str, np.ndarray], bool]:
    """The arrays of a predict request; their shapes are not compared with those the signature takes.

    Returns:
      alias -> array, of bytes objects where the input is a string; and whether the request came in rows, as the
      answer then must.

    Raises:
      RequestError: INVALID_ARGUMENT, the request is not of TF Serving's form or not of the types in `specs`;
        UNIMPLEMENTED, JSON has nothing for a type.
    """
    if "instances" in document and "inputs" in document:
        raise _wrong(document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _of_rows(document, specs), True
    if "inputs" not in document:
        raise request_errors.invalid("Missing 'inputs' or 'instances' key")
    columns = document["inputs"]
    if not _is_object(columns):
        columns = {_only(specs, "inputs is a plain value/list, but expecting an object as multiple"): columns}
    for alias in specs:
        if alias not in columns:
            raise request_errors.invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _column(columns[alias], spec.dtype, alias) for alias, spec in specs.items()}, False

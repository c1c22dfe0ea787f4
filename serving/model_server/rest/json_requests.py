"""TF Serving's JSON: rows (`instances`) or columns (`inputs`) of numbers, strings and {"b64": ...} to arrays.

orjson does the work. What it refuses goes to the standard library: NaN, Inf and Infinity are bare words there, as in TF
Serving's util/json_tensor.cc, whose messages the commonest of these are.
"""

import binascii
import itertools
import json
import re
import reprlib
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
_FITS: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}  # by kind
_C_NAMES = {"float32": "float", "float64": "double"}

Specs = Mapping[str, tensors.Spec | tf.TensorSpec]


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; INVALID_ARGUMENT if it is none, or has too many values."""
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
        raise request_errors.invalid("JSON Value: Is not object")
    return document


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if not any(word in body for word in _WORDS):
            raise
    return json.loads(_INF.sub(lambda found: b"Infinity" if found[0] == b"Inf" else found[0], body))


def signature_name(document: dict[str, Any]) -> str:
    """The signature the request names; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise request_errors.invalid("'signature_name' key must be a string value.")
    return name


def _is_object(value: Any) -> bool:
    """Whether it is a row of named inputs, not bytes."""
    return type(value) is dict and not (len(value) == 1 and type(value.get("b64")) is str)


def _decoded(text: str) -> bytes | None:
    """The bytes of base64, padded or not; None where it is none."""
    digits = text.rstrip("=")
    try:
        found = binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except ValueError:
        return None
    # binascii leaves out what is not of the alphabet. The bytes are then fewer than the characters promised.
    return found if len(found) == len(digits) * 3 // 4 and "=" not in digits else None


def _bytes_of(value: Any) -> bytes:
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # JSON can say half of a surrogate pair, UTF-8 cannot
            raise request_errors.invalid("JSON Value: holds an invalid surrogate pair") from error
    if _is_object(value):
        raise request_errors.invalid(f"JSON Value: {reprlib.repr(value)} not formatted correctly for base64 data")
    found = _decoded(text := value["b64"])
    if found is None:
        found = _decoded("".join(text.split()))  # in lines, as some tools write it
    if found is None:
        raise request_errors.invalid("Unable to base64 decode")
    return found


def _type_error(value: Any, dtype: tf.DType) -> request_errors.RequestError:
    wanted = _C_NAMES.get(dtype.name, dtype.name)
    return request_errors.invalid(f"JSON Value: {reprlib.repr(value)} is not of expected type: {wanted}")


def _array(flat: list[Any], dtype: tf.DType, kind: str) -> np.ndarray:
    if not set(map(type, flat)) <= _FITS[kind]:
        raise _type_error(next(value for value in flat if type(value) not in _FITS[kind]), dtype)
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


def _column(value: Any, dtype: tf.DType, alias: str) -> np.ndarray:
    """The array of one input that came as a whole: nested lists of values, or one value."""
    shape, first = [], value  # as the first item, its first item and so on say it
    while type(first) is list:
        shape.append(len(first))
        first = first[0] if first else None
    tensors.check_rank(alias, len(shape))
    kind = "O" if dtype == tf.string else "f" if dtype.is_floating else np.dtype(dtype.as_numpy_dtype).kind
    if kind not in _FITS:
        line = f"Conversion of JSON Value: {reprlib.repr(value)} to type: {dtype.name}"
        raise request_errors.RequestError(grpc.StatusCode.UNIMPLEMENTED, line)
    flat = [value]
    for level, size in enumerate(shape):
        if set(map(type, flat)) - {list} or set(map(len, flat)) - {size}:
            line = f"input {alias}: expected lists of {size} at level {level}, as the first of them is"
            raise request_errors.invalid(line)
        flat = list(itertools.chain.from_iterable(flat))
    return _array(flat, dtype, kind).reshape(shape)


def _rows(items: list[Any], dtype: tf.DType, alias: str) -> np.ndarray:
    """The array of one input that came in rows; the error names the row that is wrong by itself."""
    try:
        return _column(items, dtype, alias)
    except request_errors.RequestError as error:
        if error.code != grpc.StatusCode.INVALID_ARGUMENT:
            raise
        whole = error
    for number, item in enumerate(items):
        try:
            _column(item, dtype, alias)
        except request_errors.RequestError as error:
            raise request_errors.invalid(
                f"Failed to process element: {number} of 'instances' list. Error: INVALID_ARGUMENT: {error.message}"
            ) from error
    raise whole


def _only(specs: Specs, message: str) -> str:
    if len(specs) != 1:
        raise request_errors.invalid(f"{message} input tensors required as per tensorinfo_map")
    return next(iter(specs))


def _of_rows(rows: Any, specs: Specs) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise request_errors.invalid("JSON Value: Expecting 'instances' to be an list/array")
    if not rows:
        raise request_errors.invalid("JSON Value: No values in 'instances' array")
    if not any(map(_is_object, rows)):
        alias = _only(specs, "instances is a plain list, but expecting list of objects as multiple")
        return {alias: _rows(rows, specs[alias].dtype, alias)}
    for number, row in enumerate(rows):
        if not _is_object(row):
            raise request_errors.invalid(f"Expecting object but got value/list at item {number} of input list")
        if row.keys() != specs.keys():
            found, wanted = (",".join(sorted(names)) for names in (row, specs))
            line = f"JSON object: keys are {reprlib.repr(found)} and must be equal to: {wanted}"
            raise request_errors.invalid(f"Failed to process element: {number} of 'instances' list. {line}")
    return {alias: _rows([row[alias] for row in rows], spec.dtype, alias) for alias, spec in specs.items()}


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
        raise request_errors.invalid("expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _of_rows(document["instances"], specs), True
    if "inputs" not in document:
        raise request_errors.invalid("Missing 'inputs' or 'instances' key")
    columns = document["inputs"]
    if not _is_object(columns):
        columns = {_only(specs, "inputs is a plain value/list, but expecting an object as multiple"): columns}
    for alias in specs:
        if alias not in columns:
            raise request_errors.invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: _column(columns[alias], spec.dtype, alias) for alias, spec in specs.items()}, False

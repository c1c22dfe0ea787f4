"""A tensor's values in JSON: nested lists to one array, many values at a time."""

import binascii
import functools
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from longtail.serving.model_server import request_errors

_MOST_DIMENSIONS = 32  # of NumPy's arrays
_SHOWN = 256  # characters of a value in an error
# kind of dtype -> types of JSON
_FITS: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "O": {str, dict}}
_NAMES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}


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


def is_b64(value: dict[str, Any]) -> bool:
    """Whether an object is bytes, not a row of named inputs."""
    return len(value) == 1 and type(value.get("b64")) is str


def _decoded(text: str) -> bytes | None:
    """Base64 as TF Serving reads it, padded or not; None where it is none.

    binascii leaves out what is not of the alphabet. The bytes are then fewer than the characters promised.
    """
    digits = len(text) - (text.endswith("=") + text.endswith("=="))
    if digits % 4 == 1 or (digits != len(text) and len(text) % 4):
        return None
    try:
        found = binascii.a2b_base64(text if not len(text) % 4 else text + "=" * (-len(text) % 4))
    except ValueError:
        return None
    return found if len(found) == digits * 3 // 4 else None


def _bytes_of(value: Any) -> bytes:
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # JSON can say half of a surrogate pair, UTF-8 cannot
            raise request_errors.invalid(f"JSON Value: {short(value)} holds an invalid surrogate pair") from error
    if not is_b64(value):
        raise request_errors.invalid(f"JSON Value: {short(value)} not formatted correctly for base64 data")
    text = value["b64"]
    found = _decoded(text)
    if found is None:
        found = _decoded("".join(text.split()))
    if found is None:
        raise request_errors.invalid("Unable to base64 decode")
    return found


def _shape(value: Any) -> list[int]:
    shape = []
    while type(value) is list:
        shape.append(len(value))
        value = value[0] if value else None
    return shape


@functools.cache
def _kind(dtype: tf.DType) -> str:
    if dtype == tf.string:
        return "O"
    return "f" if dtype.is_floating else np.dtype(dtype.as_numpy_dtype).kind  # bfloat16 is of no kind of NumPy's


def _type_error(value: Any, dtype: tf.DType) -> request_errors.RequestError:
    name = _NAMES.get(type(value)) or str(value)  # True and False are types of their own there
    wanted = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
    return request_errors.invalid(f"JSON Value: {short(value)} Type: {name} is not of expected type: {wanted}")


class _OddError(Exception):
    """Item `index` of a list is not like the first."""

    def __init__(self, index: int):
        super().__init__(index)
        self.index = index


class _ValueError(Exception):
    """Value `index` of all is of the right type, but cannot be taken: `error` says why."""

    def __init__(self, index: int, error: request_errors.RequestError):
        super().__init__(index)
        self.index = index
        self.error = error


def _values(items: list[Any], shape: Sequence[int], fits: set[type]) -> list[Any]:
    """The values in `items` in order, each of them nested lists of `shape`.

    Raises:
      _OddError: one is not, or has a value of another type than those in `fits`.
    """
    flat, each = items, 1
    for size in shape:
        if set(map(type, flat)) != {list} or set(map(len, flat)) != {size}:
            raise _OddError(next(i for i, v in enumerate(flat) if type(v) is not list or len(v) != size) // each)
        flat, each = list(itertools.chain.from_iterable(flat)), each * size
    if not set(map(type, flat)) <= fits:
        raise _OddError(next(i for i, value in enumerate(flat) if type(value) not in fits) // each)
    return flat


def _explain(value: Any, level: int, shape: Sequence[int], dtype: tf.DType) -> None:
    """Raises what TF Serving's FillTensorProto says of `value`, where it says something."""
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise request_errors.invalid(
                f"JSON Value: {short(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{rank}"
            )
        if type(value) not in _FITS.get(_kind(dtype), ()):
            raise _type_error(value, dtype)
        return
    if level >= rank:
        raise request_errors.invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise request_errors.invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _explain(item, level + 1, shape, dtype)


def _strings(flat: list[Any]) -> np.ndarray:
    found: list[bytes] = []
    try:
        for value in flat:
            found.append(_bytes_of(value))
    except request_errors.RequestError as error:
        raise _ValueError(len(found), error) from error
    return np.array(found, object)


def _array(flat: list[Any], dtype: tf.DType) -> np.ndarray:
    """The array of these values, in one dimension.

    Raises:
      _ValueError: one cannot be of `dtype`.
    """
    kind = _kind(dtype)
    if kind == "O":
        return _strings(flat)
    if kind in "iu" and flat and not (dtype.min <= min(flat) and max(flat) <= dtype.max):
        index = next(index for index, value in enumerate(flat) if not dtype.min <= value <= dtype.max)
        raise _ValueError(index, _type_error(flat[index], dtype))
    try:
        with np.errstate(over="ignore"):  # what is beyond the type is infinite, as for TF Serving
            return np.array(flat, dtype.as_numpy_dtype)
    except OverflowError as error:  # a whole number of more than 308 digits
        raise request_errors.invalid("JSON Parse error: Number too big to be stored in double.") from error


def _checked_shape(value: Any, dtype: tf.DType, alias: str, in_rows: bool) -> list[int]:
    shape = _shape(value)
    rank = len(shape) + in_rows
    if rank > _MOST_DIMENSIONS:
        raise request_errors.invalid(f"input {alias}: it has {rank} dimensions; at most {_MOST_DIMENSIONS} can be")
    if _kind(dtype) not in _FITS:
        raise request_errors.RequestError(
            grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {short(value)} to type: {dtype.name}"
        )
    return shape


def column(value: Any, dtype: tf.DType, alias: str) -> np.ndarray:
    """The array of one input that came as a whole.

    Args:
      value: nested lists of values, or one value.
      dtype: of the signature's input.
      alias: its name.

    Raises:
      RequestError: INVALID_ARGUMENT, the lists are of different lengths or a value is of another type; UNIMPLEMENTED,
        JSON has nothing for `dtype`.
    """
    shape = _checked_shape(value, dtype, alias, False)
    items, each = (value, shape[1:]) if shape else ([value], [])
    try:
        flat = _values(items, each, _FITS[_kind(dtype)])
    except _OddError as odd:
        _explain(items[odd.index], 1 if shape else 0, shape, dtype)
        raise
    try:
        return _array(flat, dtype).reshape(shape)
    except _ValueError as bad:
        raise bad.error from bad


def rows(items: list[Any], dtype: tf.DType, alias: str, key: str) -> np.ndarray:
    """The array of one input that came in rows.

    Args:
      items: the rows, at least one.
      dtype: of the signature's input.
      alias: its name.
      key: what names the input in an error, empty where the rows do not.

    Raises:
      RequestError: INVALID_ARGUMENT, the rows differ in shape or a value is of another type; UNIMPLEMENTED, JSON has
        nothing for `dtype`.
    """
    shape = _checked_shape(items[0], dtype, alias, True)
    try:
        flat = _values(items, shape, _FITS[_kind(dtype)])
    except _OddError as odd:
        number, error = odd.index, _odd_row(items[odd.index], shape, dtype)
    else:
        try:
            return _array(flat, dtype).reshape([len(items), *shape])
        except _ValueError as bad:
            number, error = bad.index // math.prod(shape), bad.error
    raise request_errors.invalid(
        f"Failed to process element: {number}{key} of 'instances' list. Error: INVALID_ARGUMENT: {error.message}"
    )


def _odd_row(item: Any, shape: Sequence[int], dtype: tf.DType) -> request_errors.RequestError:
    own = _shape(item)
    try:
        _explain(item, 0, own, dtype)
    except request_errors.RequestError as error:
        return error
    if math.prod(own) != math.prod(shape):
        return request_errors.invalid(f"Expecting tensor size: {math.prod(shape)} but got: {math.prod(own)}")
    wanted, found = (",".join(map(str, sizes)) for sizes in (shape, own))
    return request_errors.invalid(f"Expecting shape [{wanted}] but got: [{found}]")

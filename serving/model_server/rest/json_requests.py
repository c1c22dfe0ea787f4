"""TF Serving's JSON: rows (`instances`) or columns (`inputs`) of numbers, strings and {"b64": ...} to arrays.

NaN and infinities are read as the bare tokens NaN, Infinity and -Infinity, as TF Serving's util/json_tensor.cc does,
whose messages these are. orjson does the work, and the standard library what orjson refuses.
"""

import collections
import contextlib
import gc
import json
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from longtail.serving.model_server import json_values
from longtail.serving.model_server import request_errors

_TOKENS = (b"NaN", b"Infinity")  # which orjson does not read
_LARGE = 64 << 10  # bytes
_MOST_VALUES = 4 << 20  # and lists and objects; while they are read, nothing else is done, and each takes 64 bytes


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Leaves the garbage alone: millions of new lists hold none, and would be looked through for it again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
      RequestError: INVALID_ARGUMENT, it is not one, has a key twice, or has too many values.
    """
    if not body:
        raise request_errors.invalid("JSON Parse error: The document is empty")
    if len(body) > _LARGE and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise request_errors.invalid(
            f"JSON Parse error: more than {_MOST_VALUES} values; send fewer at a time, or send them over gRPC"
        )
    try:
        with _without_collection() if len(body) > _LARGE else contextlib.nullcontext():
            document = _parsed(body)
    except (ValueError, RecursionError) as error:
        raise request_errors.invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise request_errors.invalid(f"JSON Value: {json_values.short(document)} Is not object")
    return document


def _parsed(body: bytes | bytearray) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        if any(token in body for token in _TOKENS):
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
        raise ValueError(f"the key {json_values.short(twice)} comes twice in an object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature the request names; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise request_errors.invalid(
            f"JSON Value: {json_values.short(document)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return name


def _is_object(value: Any) -> bool:
    return type(value) is dict and not json_values.is_b64(value)


def _only(specs: Mapping[str, tf.TensorSpec], message: str) -> str:
    if len(specs) != 1:
        raise request_errors.invalid(f"{message} input tensors required as per tensorinfo_map")
    return next(iter(specs))


def _check_keys(number: int, item: dict[str, Any], specs: Mapping[str, tf.TensorSpec]) -> None:
    if item.keys() == specs.keys():
        return
    for name in item:
        if name not in specs:
            raise request_errors.invalid(
                f"Failed to process element: {number} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: JSON "
                f"object: does not have named input: {name}"
            )
    raise request_errors.invalid(
        f"Failed to process element: {number} of 'instances' list. JSON object: {json_values.short(item)} keys must be "
        f"equal to: {','.join(sorted(specs))}"
    )


def _of_rows(document: dict[str, Any], specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise request_errors.invalid(
            f"JSON Value: {json_values.short(document)} Expecting 'instances' to be an list/array"
        )
    if not rows:
        raise request_errors.invalid(f"JSON Value: {json_values.short(document)} No values in 'instances' array")
    if not _is_object(rows[0]):
        alias = _only(specs, "instances is a plain list, but expecting list of objects as multiple")
        for number, item in enumerate(rows):
            if type(item) is dict and _is_object(item):
                raise request_errors.invalid(f"Expecting value/list but got object at item {number} of input list")
        return {alias: json_values.rows(rows, specs[alias].dtype, alias, "")}
    for number, item in enumerate(rows):
        if not _is_object(item):
            raise request_errors.invalid(f"Expecting object but got list at item {number} of input list")
        _check_keys(number, item, specs)
    return {
        alias: json_values.rows([item[alias] for item in rows], spec.dtype, alias, f" key: {alias}")
        for alias, spec in specs.items()
    }


def _of_columns(columns: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, np.ndarray]:
    if not _is_object(columns):
        columns = {_only(specs, "inputs is a plain value/list, but expecting an object as multiple"): columns}
    for alias in specs:
        if alias not in columns:
            raise request_errors.invalid(f"Missing named input: {alias} in 'inputs' object.")
    return {alias: json_values.column(columns[alias], spec.dtype, alias) for alias, spec in specs.items()}


def inputs_of(document: dict[str, Any], specs: Mapping[str, tf.TensorSpec]) -> tuple[dict[str, np.ndarray], bool]:
    """The arrays of a predict request; their shapes are not compared with those the signature takes.

    Args:
      document: the request.
      specs: the signature's inputs.

    Returns:
      alias -> array, of bytes objects where the input is a string; and whether the request came in rows, as the
      answer then must.

    Raises:
      RequestError: INVALID_ARGUMENT, the request is not of TF Serving's form or not of the types in `specs`.
    """
    if ("instances" in document) == ("inputs" in document):
        if "instances" not in document:
            raise request_errors.invalid("Missing 'inputs' or 'instances' key")
        raise request_errors.invalid(
            f"JSON Value: {json_values.short(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist"
        )
    if "instances" in document:
        return _of_rows(document, specs), True
    return _of_columns(document["inputs"], specs), False

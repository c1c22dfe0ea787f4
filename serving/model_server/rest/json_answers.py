"""A model's answer as TF Serving's JSON: rows (`predictions`) or columns (`outputs`).

What is not finite is written as the bare words NaN, Infinity and -Infinity, as TF Serving's util/json_tensor.cc does,
and float32 in as few digits as tell it from its neighbours.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from longtail.serving.model_server.runtime import request_errors

_BYTES_SUFFIX = "_bytes"  # an output so named is bytes, written as {"b64": ...}


def dump(content: Any) -> bytes:
    """JSON of what else there is to say."""
    try:
        return orjson.dumps(content)
    except TypeError:  # half of a surrogate pair, which came in as JSON and can go out as such only
        return json.dumps(content).encode()


def _text(alias: str, value: bytes) -> Any:
    if alias.endswith(_BYTES_SUFFIX):
        return {"b64": base64.b64encode(value).decode()}
    return value.decode(errors="replace")


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _in_words(array: np.ndarray) -> orjson.Fragment:
    """The JSON of an array with values that are none, of which orjson makes null."""
    shortest = array.astype(str).astype(np.float64)
    return orjson.Fragment(json.dumps(shortest.tolist(), separators=(",", ":")))


def _written(alias: str, array: np.ndarray, in_rows: bool = False) -> Any:
    """What orjson, told of NumPy, writes for an output, or for each of its rows.

    Raises:
      RequestError: INVALID_ARGUMENT, JSON has nothing for its type.
    """
    if array.dtype == np.object_:
        texts = np.empty(array.shape, object)
        texts.ravel()[:] = [_text(alias, value) for value in array.ravel().tolist()]
        return texts.tolist()
    if array.dtype.kind == "V" or array.dtype == np.float16:  # bfloat16 and its like
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise request_errors.invalid(f"Failed to write JSON value for tensor type: {array.dtype.name} ({alias})")
    array = np.ascontiguousarray(array).reshape(array.shape)  # which makes a list of a single value
    if in_rows:
        return list(array) if _is_finite(array) else [_in_words(np.asarray(row)) for row in array]
    if not _is_finite(array):
        return _in_words(array)
    return array if array.ndim else array[()]


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    first = None
    for alias, array in outputs.items():
        if not array.ndim:
            raise request_errors.invalid(f"Tensor name: {alias} has no shape information ")
        first = len(array) if first is None else first
        if len(array) != first:
            raise request_errors.invalid(
                f"Tensor name: {alias} has inconsistent batch size: {len(array)} expecting: {first}"
            )


def answer(outputs: Mapping[str, np.ndarray], in_rows: bool) -> bytes:
    """The JSON of a predict response: {"predictions": [a row each]} or {"outputs": columns}.

    Raises:
      RequestError: INVALID_ARGUMENT, rows were asked for but the outputs differ in their number of rows, or JSON has
        nothing for an output's type.
    """
    if in_rows:
        _check_rows(outputs)
    content: Any
    if len(outputs) == 1:
        [(alias, array)] = outputs.items()
        content = _written(alias, array)
    elif in_rows:
        columns = [_written(alias, array, True) for alias, array in outputs.items()]
        content = [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]
    else:
        content = {alias: _written(alias, array) for alias, array in outputs.items()}
    return orjson.dumps({"predictions" if in_rows else "outputs": content}, option=orjson.OPT_SERIALIZE_NUMPY)

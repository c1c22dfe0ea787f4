"""TF Serving's JSON: rows (`instances`) or columns (`inputs`) of numbers, strings and {"b64": ...} to tensors and back.

NaN and infinities are written and read as the bare tokens NaN, Infinity and -Infinity, as TF Serving does.
"""

import base64
import binascii
import json
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.model_server import request_errors
from serving.model_server import tensors

_BYTES_SUFFIX = "_bytes"  # an output so named is bytes, written as {"b64": ...}
_KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}  # kind of the signature's dtype -> kinds of JSON taken


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises:
      RequestError: INVALID_ARGUMENT, it is not one.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise request_errors.invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise request_errors.invalid("JSON Value: the request is not an object")
    return document


def signature_name(document: dict[str, Any]) -> str:
    """The signature the request names; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise request_errors.invalid("'signature_name' key must be a string value.")
    return name


def _is_b64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_b64(value)


def _bytes_of(alias: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:  # JSON can say half of a surrogate pair, UTF-8 cannot
            raise request_errors.invalid(f"input {alias}: {short(value)} holds an invalid surrogate pair") from error
    if not _is_b64(value):
        raise request_errors.invalid(f'input {alias}: expects a string or {{"b64": "..."}}, got {short(value)}')
    try:
        return base64.b64decode("".join(value["b64"].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise request_errors.invalid(f"input {alias}: unable to base64 decode: {error}") from error


def short(value: Any) -> str:
    """What a client sent, cut so that it fits into the line that says what is wrong with it."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return "a value nested too deep"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _leaves(alias: str, value: Any, shape: list[int]) -> Iterator[Any]:
    if not shape:
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise request_errors.invalid(f"input {alias}: its rows differ in size; expected lists of {shape[0]}")
    for item in value:
        yield from _leaves(alias, item, shape[1:])


def _numbers(alias: str, value: Any, dtype: tf.DType) -> np.ndarray:
    wanted = dtype.as_numpy_dtype
    try:
        found = np.array(value)
    except ValueError as error:
        raise request_errors.invalid(f"input {alias}: its rows differ in size") from error
    kind = "f" if dtype.is_floating else np.dtype(wanted).kind  # bfloat16 is of no kind of NumPy's
    if found.size and found.dtype.kind not in _KINDS.get(kind, ""):
        raise request_errors.invalid(f"input {alias}: JSON value {short(value)} is not of type {dtype.name}")
    if found.size and kind in "iu" and not dtype.min <= found.min() <= found.max() <= dtype.max:
        raise request_errors.invalid(f"input {alias}: a value is out of the range of {dtype.name}")
    return found.astype(wanted)


def _tensor(alias: str, value: Any, spec: tf.TensorSpec) -> tf.Tensor:
    shape = _shape(value)
    tensors.check_rank(alias, len(shape))
    if spec.dtype == tf.string:
        values = [_bytes_of(alias, leaf) for leaf in _leaves(alias, value, shape)]
        tensor = tf.constant(values, tf.string, shape)
    else:
        tensor = tf.constant(_numbers(alias, value, spec.dtype))
    tensors.check(alias, tensor.dtype.as_datatype_enum, tensor.shape, spec)
    return tensor


def _only(specs: Mapping[str, tf.TensorSpec], what: str) -> str:
    if len(specs) != 1:
        raise request_errors.invalid(
            f"{what} is a plain list, but the signature takes several inputs: {', '.join(sorted(specs))}"
        )
    return next(iter(specs))


def _columns_of(instances: Any, specs: Mapping[str, tf.TensorSpec]) -> dict[str, list[Any]]:
    if not isinstance(instances, list):
        raise request_errors.invalid("Expecting 'instances' to be an list/array")
    if not instances:
        raise request_errors.invalid("No values in 'instances' array")
    if not _is_object(instances[0]):
        return {_only(specs, "instances"): instances}
    for number, item in enumerate(instances):
        if not _is_object(item):
            raise request_errors.invalid(f"Expecting object but got list at item {number} of input list")
        if set(item) != set(specs):
            raise request_errors.invalid(
                f"Failed to process element: {number} of 'instances' list. Its keys must be equal to: "
                f"{','.join(sorted(specs))}"
            )
    return {alias: [item[alias] for item in instances] for alias in specs}


def inputs_of(document: dict[str, Any], specs: Mapping[str, tf.TensorSpec]) -> tuple[dict[str, tf.Tensor], bool]:
    """The tensors of a predict request.

    Args:
      document: the request.
      specs: the signature's inputs.

    Returns:
      alias -> tensor; and whether the request came in rows, as the answer then must.

    Raises:
      RequestError: INVALID_ARGUMENT, the request is not of TF Serving's form or does not fit `specs`.
    """
    if ("instances" in document) == ("inputs" in document):
        both = "instances" in document
        raise request_errors.invalid(
            "expecting only one of 'inputs' or 'instances'" if both else "Missing 'inputs' or 'instances' key"
        )
    if "instances" in document:
        columns = _columns_of(document["instances"], specs)
    elif _is_object(document["inputs"]):
        columns = document["inputs"]
        for alias in specs:
            if alias not in columns:
                raise request_errors.invalid(f"Missing named input: {alias} in 'inputs' object.")
        for alias in columns:
            if alias not in specs:
                raise request_errors.invalid(f"JSON object: does not have named input: {alias}")
    else:
        columns = {_only(specs, "inputs"): document["inputs"]}
    tensor_of = {alias: _tensor(alias, columns[alias], spec) for alias, spec in specs.items()}
    return tensor_of, "instances" in document


def _plain(alias: str, array: np.ndarray) -> Any:
    if array.dtype != np.object_:
        # float() on the way, as bfloat16 has no JSON of its own.
        return (array.astype(np.float32) if array.dtype.kind == "V" else array).tolist()

    def text(value: bytes) -> Any:
        if alias.endswith(_BYTES_SUFFIX):
            return {"b64": base64.b64encode(value).decode()}
        return value.decode(errors="replace")

    return np.vectorize(text, otypes=[object])(array).tolist()


def answer(outputs: Mapping[str, np.ndarray], rows: bool) -> dict[str, Any]:
    """The JSON of a predict response: {"predictions": [a row each]} or {"outputs": columns}.

    Raises:
      RequestError: INVALID_ARGUMENT, rows were asked for but the outputs differ in their number of rows.
    """
    plain = {alias: _plain(alias, array) for alias, array in outputs.items()}
    if not rows:
        return {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}
    counts = {array.shape[:1] for array in outputs.values()}
    if len(counts) != 1 or () in counts:
        raise request_errors.invalid("the outputs differ in their number of rows; ask with 'inputs'")
    if len(plain) == 1:
        return {"predictions": next(iter(plain.values()))}
    return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}

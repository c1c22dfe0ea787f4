"""What is known only when a run starts: values that a pipeline leaves open, and folders named after its model."""

from typing import Any
from typing import TypeVar

from tfx.orchestration import data_types

from longtail.models import errors

MODEL = "{MODEL}"  # in a folder's path: stands for the model's name, since Kubeflow joins no texts

T = TypeVar("T", int, float)


def number(kind: type[T], value: Any) -> Any:
    """`value` as a number of `kind`; a runtime parameter as it is, since nobody knows its value yet."""
    return value if isinstance(value, data_types.RuntimeParameter) else kind(value)


def known(*values: Any) -> bool:
    """Whether all values are known when a pipeline is put together."""
    return not any(isinstance(value, data_types.RuntimeParameter) for value in values)


def folder(path: str, model_name: str) -> str:
    """Puts the model's name where `{MODEL}` stands in a path.

    Raises:
      errors.UsageError: it is no name of a folder.
    """
    if MODEL not in path:
        return path
    if not model_name or model_name.startswith(".") or set(model_name) & set("/\\"):
        raise errors.UsageError(f"model_name {model_name!r} is no name of a folder; use letters, digits, '-' and '_'")
    return path.replace(MODEL, model_name)

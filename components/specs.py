"""How a component states what flows in and out: its keys with their types, from which TFX's ComponentSpec is made."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.types import component_spec

Types = Mapping[str, type]


def declare(
    *,
    parameters: Types | None = None,
    optional_parameters: Types | None = None,
    inputs: Types | None = None,
    optional_inputs: Types | None = None,
    outputs: Types | None = None,
    stock: type[component_spec.ComponentSpec] = component_spec.ComponentSpec,
) -> type[component_spec.ComponentSpec]:
    """Makes the `SPEC_CLASS` of a component. An instance is given parameters and inputs; its outputs it makes itself.

    Args:
      parameters: execution property -> its type: int, float, str or a protobuf message.
      optional_parameters: likewise, of those that may be missing.
      inputs: channel -> the type of its artifacts.
      optional_inputs: likewise, of those that may be missing.
      outputs: channel -> the type of its artifacts.
      stock: a spec of TFX's own, which this one extends.
    """

    def merged(attribute: str, kind: type, required: Types | None, optional: Types | None = None) -> dict[str, Any]:
        found = dict(getattr(stock, attribute, {}))
        found.update((key, kind(type=value)) for key, value in (required or {}).items())
        found.update((key, kind(type=value, optional=True)) for key, value in (optional or {}).items())
        return found

    class Spec(stock):  # type: ignore[misc, valid-type]
        PARAMETERS = merged("PARAMETERS", component_spec.ExecutionParameter, parameters, optional_parameters)
        INPUTS = merged("INPUTS", component_spec.ChannelParameter, inputs, optional_inputs)
        OUTPUTS = merged("OUTPUTS", component_spec.ChannelParameter, outputs)

        def __init__(self, **given: Any):
            super().__init__(**{key: types.Channel(type=one.type) for key, one in self.OUTPUTS.items()}, **given)

    return Spec

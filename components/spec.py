"""How a component states what flows in and out: its keys with their types, from which TFX's ComponentSpec is made."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.types import component_spec

Artifacts = Mapping[str, type[types.Artifact]]
Values = Mapping[str, type]


def declare(
    *,
    parameters: Values | None = None,
    optional_parameters: Values | None = None,
    inputs: Artifacts | None = None,
    optional_inputs: Artifacts | None = None,
    outputs: Artifacts | None = None,
    stock: type[component_spec.ComponentSpec] | None = None,
) -> type[component_spec.ComponentSpec]:
    """Makes the `SPEC_CLASS` of a component. An instance is given parameters and inputs; its outputs it makes itself.

    Args:
        parameters: execution property -> its type: int, float, str or a protobuf message.
        optional_parameters: likewise, of those that may be missing.
        inputs: channel -> the type of its artifacts.
        optional_inputs: likewise, of those that may be missing.
        outputs: channel -> the type of its artifacts.
        stock: a spec of TFX's own that this one extends.
    """
    base = stock or component_spec.ComponentSpec
    inherited = stock or _Nothing

    class Spec(base):  # type: ignore[misc, valid-type]
        PARAMETERS = {
            **inherited.PARAMETERS,
            **_all(component_spec.ExecutionParameter, parameters),
            **_all(component_spec.ExecutionParameter, optional_parameters, optional=True),
        }
        INPUTS = {
            **inherited.INPUTS,
            **_all(component_spec.ChannelParameter, inputs),
            **_all(component_spec.ChannelParameter, optional_inputs, optional=True),
        }
        OUTPUTS = {**inherited.OUTPUTS, **_all(component_spec.ChannelParameter, outputs)}

        def __init__(self, **given: Any):
            made = {key: types.Channel(type=channel.type) for key, channel in self.OUTPUTS.items()}
            super().__init__(**{**made, **given})

    return Spec


class _Nothing:
    """What a spec that extends none inherits."""

    PARAMETERS: dict = {}
    INPUTS: dict = {}
    OUTPUTS: dict = {}


def _all(kind: type, named: Mapping[str, type] | None, optional: bool = False) -> dict[str, Any]:
    return {key: kind(type=value, optional=optional) for key, value in (named or {}).items()}

"""TFX's Trainer, which hands on to `run_fn` the census, the span, a blessed model, and settings left open until now."""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.components.trainer import executor as stock
from tfx.types import artifact_utils
from tfx.types import standard_component_specs
from tfx.utils import path_utils

from longtail.components.baseline_finder import executor as finder
from longtail.components.rebalancer import census
from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import settings

log = logging.getLogger("longtail")

CENSUS_KEY = "census"

# Execution property -> key of the training's settings and its type, of all that can be left open until a run starts.
SETTINGS = {key.replace(".", "_"): (key, kind) for key, kind in settings.scalars(config_lib.TrainConfig).items()}


class Executor(stock.GenericExecutor):
    """Adds `census_path` to what `run_fn` is given, and completes the rest, `base_model` among it."""

    def _GetFnArgs(self, input_dict, output_dict, exec_properties):
        fn_args: Any = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        uri = artifact_utils.get_single_uri(input_dict[CENSUS_KEY])
        fn_args.census_path = os.path.join(uri, census.CENSUS_FILE)
        examples = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        custom = fn_args.custom_config
        custom["config"] = complete(custom["config"], exec_properties)
        card = {**json.loads(custom["card"]), "span": examples.span}
        fn_args.base_model, version = _base_model(input_dict)
        if fn_args.base_model:
            card["start_version"] = version
        custom["card"] = json.dumps(card)
        return fn_args


def _base_model(input_dict: Mapping[str, list[types.Artifact]]) -> tuple[str, int]:
    """The folder of the last blessed model and its version; "" where there is none, or none is asked for."""
    if not input_dict.get(standard_component_specs.BASE_MODEL_KEY):
        return "", finder.NO_SPAN
    model = artifact_utils.get_single_instance(input_dict[standard_component_specs.BASE_MODEL_KEY])
    if not model.get_int_custom_property(finder.FOUND_PROPERTY):
        log.info("training.start_from: there is no blessed model yet, so this training begins from scratch")
        return "", finder.NO_SPAN
    return path_utils.serving_model_path(model.uri), model.get_int_custom_property(finder.VERSION_PROPERTY)


def complete(config: str, exec_properties: Mapping[str, Any]) -> str:
    """Puts what was left open until the run into a `TrainConfig` as JSON.

    Raises:
      errors.UsageError: a value that its key, or another, does not allow.
    """
    given = {name: exec_properties[name] for name in SETTINGS if exec_properties.get(name) is not None}
    if not given:
        return config
    mapping = json.loads(config)
    for name, value in given.items():
        key, kind = SETTINGS[name]
        if kind is bool and value not in (0, 1):
            raise errors.UsageError(f"runtime parameters: {key} must be 0 or 1, not {value!r}")
        section, leaf = key.split(".")
        mapping[section][leaf] = bool(value) if kind is bool else value
    check.check(settings.read(config_lib.TrainConfig, mapping, "runtime parameters"))
    return json.dumps(mapping, sort_keys=True)

"""TFX's Trainer with one more input: the census, which says how many classes there are and how many images each has."""

import dataclasses
import json
from typing import Any

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.proto import trainer_pb2
from tfx.types import channel
from tfx.types import standard_component_specs

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.data import features
from longtail.components.trainer import executor
from longtail.models import config as config_lib

_TYPES: dict[type, type] = {bool: int}  # of execution properties: there is no bool among them


class Trainer(base_component.BaseComponent):
    """Trains an embedder with `longtail.models.training.loop.run_fn` and exports its SavedModel.

    Outputs:
      model: the SavedModel, with the signatures of `longtail.models.export.signatures`.
      model_run: TensorBoard's event files.
    """

    SPEC_CLASS = specs.declare(
        stock=standard_component_specs.TrainerSpec,
        # Whichever settings are left open until a run starts.
        optional_parameters={name: _TYPES.get(kind, kind) for name, (_, kind) in executor.SETTINGS.items()},
        inputs={executor.CENSUS_KEY: artifacts.ClassCensus},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        census: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        config: config_lib.TrainConfig,
        checkpoints: str,
        card: str = "{}",
        base_model: channel.BaseChannel | None = None,
    ):
        """Makes the component.

        Args:
          examples: the rebalanced examples; only a train split is read.
          census: the classes of `examples`.
          transform_graph: decodes and normalises.
          config: the settings; a runtime parameter in place of a value leaves it open until a run starts.
          checkpoints: folder where a killed training finds its last epoch.
          card: JSON object written beside the model; the span of `examples` joins it.
          base_model: BaselineFinder's, for `training.start_from: blessed`; where its custom property
            `found` is 0 there is none, and the training begins from scratch.
        """
        text, left_open = _split(config)
        train_only = [features.TRAIN_SPLIT]
        spec = self.SPEC_CLASS(
            examples=examples,
            census=census,
            transform_graph=transform_graph,
            base_model=base_model,
            run_fn="longtail.models.training.loop.run_fn",
            train_args=trainer_pb2.TrainArgs(splits=train_only),
            eval_args=trainer_pb2.EvalArgs(splits=train_only),
            custom_config=json.dumps({"config": text, "checkpoints": checkpoints, "card": card}),
            **left_open,
        )
        super().__init__(spec=spec)


def _split(config: config_lib.TrainConfig) -> tuple[str, dict[str, data_types.RuntimeParameter]]:
    """The settings as JSON, with the defaults of those left open; and these, by execution property."""
    mapping: dict[str, dict[str, Any]] = dataclasses.asdict(config)
    left_open = {}
    for section, values in mapping.items():
        for leaf, value in values.items():
            if isinstance(value, data_types.RuntimeParameter):
                left_open[f"{section}_{leaf}"] = value
                values[leaf] = value.default
    return json.dumps(mapping, sort_keys=True), left_open

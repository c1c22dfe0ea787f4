"""TFX's Trainer with one more input: the census, which says how many classes there are and how many images each has."""

import json

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.proto import trainer_pb2
from tfx.types import channel
from tfx.types import component_spec
from tfx.types import standard_artifacts
from tfx.types import standard_component_specs

from components import artifacts
from components import features
from components.trainer import executor


class TrainerSpec(standard_component_specs.TrainerSpec):
    """The stock Trainer's spec, and the census."""

    INPUTS = {
        **standard_component_specs.TrainerSpec.INPUTS,
        executor.CENSUS_KEY: component_spec.ChannelParameter(type=artifacts.ClassCensus),
    }


class Trainer(base_component.BaseComponent):
    """Trains an embedder with `models.train.run_fn` and exports its SavedModel.

    Outputs:
        model: the SavedModel, with the signatures of `models.signatures`.
        model_run: TensorBoard's event files.
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        census: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        config: str,
        checkpoints: str,
        card: str = "{}",
    ):
        """Makes the component.

        Args:
            examples: the rebalanced examples; only a train split is read.
            census: the classes of `examples`.
            transform_graph: decodes and normalises.
            config: a `models.config.TrainConfig` as JSON.
            checkpoints: folder where a killed training finds its last epoch.
            card: JSON object written beside the model.
        """
        train_only = [features.TRAIN_SPLIT]
        spec = TrainerSpec(
            examples=examples,
            census=census,
            transform_graph=transform_graph,
            run_fn="models.train.run_fn",
            train_args=trainer_pb2.TrainArgs(splits=train_only),
            eval_args=trainer_pb2.EvalArgs(splits=train_only),
            custom_config=json.dumps({"config": config, "checkpoints": checkpoints, "card": card}),
            model=channel.Channel(type=standard_artifacts.Model),
            model_run=channel.Channel(type=standard_artifacts.ModelRun),
        )
        super().__init__(spec=spec)
